"""`footnote explain`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.answers.absence import Fate, explain_document
from app.api.schemas.fates import fate_out
from app.api.schemas.search import search_out
from app.cli.context import console, print_json, services_for
from app.cli.options import with_options
from app.cli.search import SearchOptions
from app.search.explaining import SearchExplanation
from app.search.searching import SearchResult, search
from retrievers.explain import Alignment, HitExplanation, Place
from retrievers.types import Passage

N_TERMS = 8


@with_options(SearchOptions)
def explain_command(
    options: SearchOptions,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    document: Annotated[
        str | None, typer.Option("--document", "-d", help="Why is this one (not) a hit? Its id or source.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="How many hits.")] = 5,
) -> None:
    """Show why each hit is one: its place in every list, its words, its tokens; and why a document is none.

    Example: footnote explain "rolling back an index" --document manual/12-filters.md
    """
    request = options.request(query, top_k)
    request = replace(request, explain=True, sentences=True)
    fate = None
    with services_for(options.home) as services:
        if document is None:
            result = search(services, request)
        else:
            result, fate = explain_document(services, request, document)
    if options.as_json:
        shown = None if fate is None else fate_out(fate).model_dump(mode="json")
        print_json({"search": search_out(result).model_dump(mode="json"), "document": shown})
        return
    if fate is not None:
        _print_fate(fate)
    if result.explanation is not None:
        _print_search(result, result.explanation)


def _print_fate(fate: Fate) -> None:
    name = f"{fate.source} ({fate.status}, {fate.n_chunks} chunks)" if fate.source else fate.document
    console.print(Text(f"{name}: {fate.reason}", style="bold"), soft_wrap=True)
    console.print(Text(f"   {fate.detail}"), soft_wrap=True)
    if fate.places:
        console.print(_places(fate.places))
    console.print()


def _print_search(result: SearchResult, explanation: SearchExplanation) -> None:
    allowed = explanation.n_allowed_documents
    filtered = "" if allowed is None else f", filters leave {allowed} documents"
    reranked = "" if explanation.rerank_k is None else f", the best {explanation.rerank_k} reranked"
    console.print(
        Text(
            f"mode {explanation.mode}, {explanation.candidate_k} candidates a list{filtered}{reranked}", "dim"
        )
    )
    for passage in result.passages:
        _print_hit(result, passage, explanation.hits[passage.chunk.id])


def _print_hit(result: SearchResult, passage: Passage, why: HitExplanation) -> None:
    chunk = passage.chunk
    console.print(
        Text(f"\n{passage.rank}. {passage.title or passage.source}  {passage.score:.4f}", style="bold"),
        soft_wrap=True,
    )
    console.print(Text(f"   {passage.source}, characters {chunk.start}–{chunk.end}", style="dim"))
    sentence = result.sentences.get(chunk.id)
    if sentence is not None:
        text = " ".join(chunk.text[sentence.start : sentence.end].split())
        console.print(Text(f"   best sentence: {text}"), soft_wrap=True)
    console.print(_places(why.places))
    for name, terms in why.terms.items():
        best = sorted(terms.items(), key=lambda term: -term[1])[:N_TERMS]
        shown = "  ".join(f"{term} {value:.2f}" for term, value in best)
        console.print(Text(f"   {name} by term: {shown or 'none'}"), soft_wrap=True)
    if why.rerank is not None:
        change = why.rerank
        console.print(
            Text(
                f"   reranked from {change.rank_before} ({change.score_before:.4f}) "
                f"to {change.rank} ({change.score:.4f})"
            )
        )
    if why.alignment is not None:
        console.print(_alignment(why.alignment, chunk.start))


def _places(places: tuple[Place, ...]) -> Table:
    table = Table("   list", "rank", "score", "share", box=None, pad_edge=False)
    for place in places:
        table.add_row(
            f"   {place.name}",
            "–" if place.rank is None else str(place.rank),
            "–" if place.score is None else f"{place.score:.4f}",
            "–" if place.share is None else f"{place.share:.4f}",
        )
    return table


def _alignment(alignment: Alignment, start: int) -> Table:
    table = Table("   token", "nearest", "characters", "score", "weight", box=None, pad_edge=False)
    for token in alignment.tokens:
        place = "heading"
        if token.passage_start is not None and token.passage_end is not None:
            place = f"{start + token.passage_start}–{start + token.passage_end}"
        score, weight = f"{token.score:.3f}", f"{token.weight:.3f}"
        table.add_row(Text(f"   {token.token}"), Text(token.nearest), place, score, weight)
    table.add_row(Text("   MaxSim"), "", "", f"{alignment.score:.3f}", "")
    return table
