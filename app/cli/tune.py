"""`footnote tune`: learn how a collection is searched best."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    errors,
    print_json,
    services_for,
)
from app.cli.fusing import FuseOption, FusionOption, WeightsOption, read_fusion
from app.cli.options import check_one_of
from app.cli.progress import progress
from app.db.tunings import StoredTuning
from app.learning import tuning
from app.learning.tuning import TUNABLE, Tuned
from retrievers.fused import FusionSpec
from retrievers.tuning import MIN_QUESTIONS

_VERDICTS = {
    "adopted": "adopted: searches of this collection use it from now on",
    "too_few_questions": "not adopted: there are too few questions",
    "within_noise": "not adopted: on held-out questions the gain may be chance",
    "already_best": "not adopted: the present setting is the best",
}


def tune_command(
    collection: CollectionOption = "default",
    mode: Annotated[
        str | None, typer.Option("--mode", "-m", help=f"{', '.join(TUNABLE)}. [default: as searches are]")
    ] = None,
    fuse: FuseOption = None,
    fusion: FusionOption = None,
    weights: WeightsOption = None,
    synthetic: Annotated[
        int, typer.Option(min=0, help="Make so many questions for this instead of taking the golden ones.")
    ] = 0,
    min_questions: Annotated[
        int, typer.Option(min=2, help="With fewer questions nothing is adopted.")
    ] = MIN_QUESTIONS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be adopted.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Show what was adopted, and why.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what was adopted.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn the weights of a collection's searches from its golden questions, and keep them if they help.

    A setting is adopted only where the gain on questions that it was not chosen by has a 95 % interval above
    zero. It then takes the place of the settings for this collection.

    With --fuse the weights of those modes are learned, beginning with --weights; then searches of the
    collection in the mode `fused` that name no fusion of their own take them.

    Example: footnote tune --collection manuals --dry-run

    Example: footnote tune --fuse bm25,dense,late --fusion convex
    """
    if show and reset:
        raise typer.BadParameter("show or reset, not both", param_hint="--show")
    check_one_of(mode, TUNABLE, "--mode")
    wanted = read_fusion(mode, fuse, fusion, weights)
    with services_for(home) as services:
        if show:
            _show(tuning.show(services, collection), as_json)
            return
        if reset:
            was_there = tuning.reset(services, collection)
            print_json({"reset": was_there}) if as_json else console.print(
                "forgotten" if was_there else "nothing was adopted"
            )
            return
        with progress(errors, quiet=as_json) as say:
            found = tuning.tune(
                services,
                collection,
                mode=mode,  # type: ignore[arg-type]
                fusion=wanted,
                n_synthetic=synthetic,
                min_questions=min_questions,
                dry_run=dry_run,
                progress=say,
            )
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)


def _show(stored: StoredTuning | None, as_json: bool) -> None:
    if as_json:
        print_json({"tuning": asdict(stored) if stored is not None else None})
    elif stored is None:
        console.print("Nothing was adopted: searches follow the settings.")
    else:
        said = stored.evidence
        console.print(_named(stored.values), markup=False)
        console.print(
            f"since {stored.created_at:%Y-%m-%d %H:%M} by {said['n_questions']} questions "
            f"({said['questions']}), mode {said['mode']}, {said['metric']} {said['gain']:+.4f} held out "
            f"(95 %: {said['low']:+.4f} to {said['high']:+.4f})",
            markup=False,
            soft_wrap=True,
        )


def _print(found: Tuned) -> None:
    decision = found.decision
    console.print(
        f"{decision.n_questions} questions, mode {found.mode}, best of all: {_named(decision.chosen)}",
        markup=False,
    )
    console.print(f"{found.metric} on all: {decision.before:.4f} now, {decision.after:.4f} with it")
    console.print(
        f"gain on held-out questions: {decision.gain:+.4f} "
        f"(95 %: {decision.low:+.4f} to {decision.high:+.4f})"
    )
    verdict = _VERDICTS[decision.verdict]
    console.print("would be adopted" if decision.is_adopted and not found.kept else verdict)


def _named(values: Any) -> str:
    return ", ".join(
        FusionSpec.of_values(value).label if name == "fusion" else f"{name} {value:g}"
        for name, value in values.items()
    )
