"""`footnote search` and `footnote ask`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.text import Text

from app.answers.answering import AnswerResult, stream_answer
from app.api.schemas.answers import answer_out
from app.api.schemas.search import search_out
from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    print_json,
    read_object,
    services_for,
    shown,
)
from app.cli.fusing import FuseOption, FusionOption, WeightsOption, read_fusion
from app.cli.options import check_one_of, with_options
from app.generation.answer import explain
from app.generation.base import Delta
from app.search.rerankers import RERANKERS
from app.search.searching import SearchRequest, SearchResult, search
from app.search.transformations import TRANSFORMATIONS
from app.services import Services
from retrievers.modes import MODES

FilterOption = Annotated[
    str | None, typer.Option("--filter", help='A filter as JSON: \'{"year": {"$gte": 2020}}\'.')
]
ModeOption = Annotated[
    str | None,
    typer.Option("--mode", "-m", help=f"{', '.join(MODES)}. [default: auto]"),
]
TransformOption = Annotated[
    str | None,
    typer.Option("--transform", help=f"{', '.join(TRANSFORMATIONS)}; needs a language model."),
]
RerankOption = Annotated[
    str | None,
    typer.Option("--rerank", help=f"Order the best hits anew: {', '.join(RERANKERS)}."),
]
GENERATORS = ("auto", "extractive", "llm")
EXCERPT = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search: what the commands share that search for one query."""

    collection: CollectionOption = "default"
    mode: ModeOption = None
    filters: FilterOption = None
    transform: TransformOption = None
    rerank: RerankOption = None
    home: HomeOption = None
    as_json: JsonOption = False

    def request(self, query: str, top_k: int) -> SearchRequest:
        """Raises BadParameter for what is not one of the modes, transformations or rerankers."""
        check_one_of(self.mode, MODES, "--mode")
        check_one_of(self.transform, TRANSFORMATIONS, "--transform")
        check_one_of(self.rerank, RERANKERS, "--rerank")
        if not query.strip():
            raise typer.BadParameter("the query is empty", param_hint="QUERY")
        return SearchRequest(
            query=query,
            collection=self.collection,
            top_k=top_k,
            mode=self.mode,  # type: ignore[arg-type]
            filters=read_object(self.filters, "--filter"),
            transform=self.transform,
            rerank=self.rerank,
        )


@with_options(SearchOptions)
def search_command(
    options: SearchOptions,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="How many hits.")] = 5,
    fuse: FuseOption = None,
    fusion: FusionOption = None,
    weights: WeightsOption = None,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Show the sentence of each hit that fits best.")
    ] = False,
) -> None:
    """Find the passages that fit a query best.

    Example: footnote search "rolling back an index" --mode hybrid -k 3

    Example: footnote search "rolling back" --fuse bm25,dense --fusion dbsf --weights bm25=0.3,dense=0.7
    """
    request = options.request(query, top_k)
    request = replace(request, fusion=read_fusion(options.mode, fuse, fusion, weights), sentences=sentences)
    with services_for(options.home) as services:
        result = search(services, request)
    if options.as_json:
        print_json(search_out(result))
        return
    _print_how(result)
    if not result.passages:
        console.print("Nothing found.")
    for passage in result.passages:
        page = f", page {passage.chunk.page}" if passage.chunk.page else ""
        scores = "  ".join(f"{name} {score:.3f}" for name, score in passage.scores.items())
        console.print(
            Text(f"{passage.rank}. {passage.title or passage.source}", style="bold"), soft_wrap=True
        )
        where = f"   {passage.source}{page}, characters {passage.chunk.start}–{passage.chunk.end}"
        console.print(Text(f"{where}   {passage.score:.4f}  ({scores})", style="dim"), soft_wrap=True)
        best = result.sentences.get(passage.chunk.id)
        text = passage.chunk.text if best is None else passage.chunk.text[best.start : best.end]
        excerpt = " ".join(text.split())
        console.print(
            Text("   " + excerpt[:EXCERPT] + ("…" if len(excerpt) > EXCERPT else "")), soft_wrap=True
        )


@with_options(SearchOptions)
def ask_command(
    options: SearchOptions,
    query: Annotated[str, typer.Argument(help="The question.")],
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", min=1, max=100, help="Passages to rest on.")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="auto, extractive or llm. [default: auto]")] = None,
) -> None:
    """Answer a question with a footnote on every sentence, or say why there is no answer.

    Example: footnote ask "What happens to a job whose worker dies?"
    """
    check_one_of(generator, GENERATORS, "--generator")
    with services_for(options.home) as services:
        n_passages = top_k or services.settings.answer.top_k
        request = options.request(query, n_passages)
        result = ask(services, request, generator, show=not options.as_json)
    if options.as_json:
        print_json(answer_out(result))


def ask(services: Services, request: SearchRequest, generator: str | None, *, show: bool) -> AnswerResult:
    """The answer; with `show` it is written to the terminal as it comes."""
    for event in stream_answer(services, request, generator):  # type: ignore[arg-type]
        if show and isinstance(event, Delta):
            sys.stdout.write(shown(event.text))
            sys.stdout.flush()
        if isinstance(event, AnswerResult):
            if show:
                _print_footnotes(event)
            return event
    raise AssertionError("a stream ends with its result")


def _print_how(result: SearchResult) -> None:
    """What was searched with beside the query, and what the steps have to say."""
    for variant in result.transformed.variants if result.transformed else ():
        if variant.text != result.query:
            console.print(Text(f"also searched: {variant.text}", style="dim"), soft_wrap=True)
        for passage in variant.passages:
            console.print(Text(f"made up: {passage}", style="dim"), soft_wrap=True)
    for note in result.notes:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)


def _print_footnotes(result: AnswerResult) -> None:
    answer = result.answer
    notes = "".join(f" {note.rstrip('.')}." for note in (*result.search.notes, *answer.notes))
    if answer.reason is not None:
        console.print(
            f"No answer: {explain(answer.reason)} (confidence {answer.confidence:.2f}){notes}", markup=False
        )
        return
    console.print("\n")
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page else ""
        name = f"{citation.title} — {citation.source}" if citation.title else citation.source
        head = f"[{citation.n}] {name}{page}, characters {citation.start}–{citation.end}"
        console.print(Text(head, style="dim"), soft_wrap=True)
        console.print(Text("    “" + " ".join(citation.quote.split()) + "”"), soft_wrap=True)
    console.print(Text(f"Confidence {answer.confidence:.2f}, {answer.generator}.{notes}", style="dim"))
