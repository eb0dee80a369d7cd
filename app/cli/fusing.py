"""The options `--fuse`, `--fusion` and `--weights`: which retrievers are fused, and how."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from retrievers.fused import FusionSpec
from retrievers.fusion import METHODS, RRF_K, Method
from retrievers.modes import mode_spec

FuseOption = Annotated[
    str | None,
    typer.Option(
        "--fuse", help="Modes to fuse, as bm25,dense: the mode is `fused` then.", show_default=False
    ),
]
FusionOption = Annotated[
    str | None,
    typer.Option(
        "--fusion",
        help=f"With --fuse: {', '.join(METHODS)}; rrf:20 sets the k of reciprocal ranks. [default: rrf]",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="With --fuse: bm25=0.3,dense=0.7. [default: 1 each]", show_default=False),
]


def read_fusion(
    mode: str | None, fuse: str | None, method: str | None, weights: str | None
) -> FusionSpec | None:
    """What the options ask for; anything that makes no sense is wrong usage of one of them."""
    if fuse is None:
        if method is not None or weights is not None:
            raise typer.BadParameter("say with --fuse what is fused", param_hint="--fusion")
        return None
    if mode not in (None, "fused"):
        raise typer.BadParameter(f"the mode {mode} fuses nothing that could be chosen", param_hint="--fuse")
    try:
        name, k = _method(method or "rrf")
        spec = FusionSpec(retrievers=tuple(_names(fuse)), method=name, weights=_weights(weights), k=k)
        mode_spec("fused", spec)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fuse") from error
    return spec


def _method(text: str) -> tuple[Method, int]:
    """The method, and the constant of reciprocal ranks. Raises ValueError for a constant that has no use."""
    name, parted, k = text.partition(":")
    if parted and (not name.endswith("rrf") or not k.isdecimal()):
        raise ValueError(f"{text!r}: only reciprocal ranks have a constant, a number, as rrf:20.")
    return cast(Method, name), int(k) if parted else RRF_K


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _weights(text: str | None) -> dict[str, float]:
    weights: dict[str, float] = {}
    for item in _names(text) if text else []:
        name, _, value = item.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError as error:
            raise typer.BadParameter(
                f"give numbers, as bm25=0.3,dense=0.7, not {item}", param_hint="--weights"
            ) from error
    return weights
