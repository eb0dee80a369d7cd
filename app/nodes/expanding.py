"""What chunks are found by beside their own text, made at ingest: questions and expansions.

- `question`: what a language model says the chunk answers, each with a vector of its own;
- `expansion`: words to find the chunk by: such questions (`llm`), or what its neighbours speak of
  (`neighbours`).

They are nodes: never cited, never shown as a source, gone with the chunk. Which kinds a collection keeps up
is in its settings, so that what comes later is expanded too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from app.db import expansions, versions
from app.db import nodes as node_rows
from app.errors import InvalidRequest
from app.nodes.expansion_writers import ExpansionKind, How, Writer, chosen_how, writer_for
from app.versions import following, nodes
from app.versions.building import BuildStopped, Say, silent
from indexing.nodes import Node, NodeKind

if TYPE_CHECKING:
    from app.db.tables import IndexVersionRow
    from app.services import Services

logger = logging.getLogger(__name__)

KINDS: Mapping[str, ExpansionKind] = {"questions": "question", "expansion": "expansion"}
"""What people call them, and what the nodes are called."""

CHUNKS_A_BATCH: Mapping[How, int] = {"llm": 32, "neighbours": 512}
"""Saved together. What the low tail of the questions is, is told batch by batch."""

PAUSE_SECONDS = 5.0
"""Between two looks at whether something came that is to be expanded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """What was done: chunks looked at, nodes kept, questions dropped as bad, chunks the model failed on."""

    kind: str
    model: str
    n_chunks: int = 0
    n_nodes: int = 0
    n_dropped: int = 0
    n_failed: int = 0


def expand(
    services: Services, collection_id: int, kind: ExpansionKind, how: How, progress: Say | None = None
) -> Expanded:
    """Makes what chunks of a collection lack, saved batch by batch, and indexes it.

    Run again after it was stopped, it goes on where it was. Raises InvalidRequest (`llm_not_configured`,
    `nothing_to_expand` where no index is served), and LanguageModelError when the model answers no more.
    """
    with services.read() as session:
        row = versions.active(session, collection_id)
    if row is None:
        raise InvalidRequest(
            "The collection has no index yet: ingest documents first.", code="nothing_to_expand"
        )
    following.commit_pending(services, row.id)
    writer = writer_for(services, services.indexes.open(row.id), kind, how)
    say = progress or silent
    try:
        result = _expand(services, row, kind, writer, CHUNKS_A_BATCH[how], say)
    except BuildStopped:
        raise  # whoever goes on with it indexes what was saved
    except BaseException:
        nodes.follow(services, row)
        raise
    nodes.follow(services, row, lambda done, total: say("index", done, total))
    return result


def _expand(
    services: Services, row: IndexVersionRow, kind: ExpansionKind, writer: Writer, size: int, say: Say
) -> Expanded:
    of_version = (row.collection_id, row.chunker_fingerprint, kind, writer.name)
    with services.read() as session:
        total = expansions.n_missing(session, *of_version)
    done = n_nodes = n_dropped = n_failed = 0
    after: int | None = None
    while True:
        say("expand", done, total)
        with services.read() as session:
            batch = expansions.missing(session, *of_version, after=after, limit=size)
        if not batch:
            break
        written = writer.write(batch)
        n_nodes += _save(services, row, kind, writer.name, written.nodes)
        done, after = done + len(batch), batch[-1].chunk_id
        n_dropped, n_failed = n_dropped + written.n_dropped, n_failed + written.n_failed
    logger.info(
        "chunks expanded", extra={"action": "expanded", "kind": kind, "n_chunks": done, "n_nodes": n_nodes}
    )
    return Expanded(
        kind=kind,
        model=writer.name,
        n_chunks=done,
        n_nodes=n_nodes,
        n_dropped=n_dropped,
        n_failed=n_failed,
    )


def _save(services: Services, row: IndexVersionRow, kind: NodeKind, model: str, made: Sequence[Node]) -> int:
    """Keeps nodes, in place of those that another model made for the same chunks."""
    with services.write() as session:
        kept = node_rows.save(session, row.collection_id, row.chunker_fingerprint, made)
        heads = {node.chunks[0] for node in made if node.id in kept}
        node_rows.forget(session, expansions.superseded(session, kind, model, heads))
    return len(kept)


def remove(services: Services, collection_id: int, kind: ExpansionKind, progress: Say | None = None) -> int:
    """Removes all nodes of a kind, and keeps it up no longer; how many went."""
    say = progress or silent
    with services.write() as session:
        expansions.want(session, collection_id, kind, None)
    with services.read() as session:
        total = node_rows.count(session, collection_id, kind=kind)
    n_gone = 0
    while True:
        say("remove", n_gone, total)
        with services.write() as session:
            some = node_rows.forget_kind(session, collection_id, kind)
        if not some:
            break
        n_gone += some
    with services.read() as session:
        row = versions.active(session, collection_id)
    if row is not None:
        nodes.follow(services, row)
    return n_gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `expand` would do."""

    kind: str
    model: str
    n_chunks: int


def plan(services: Services, collection_id: int, kind: ExpansionKind, how: How) -> Plan:
    """How many chunks lack nodes. Raises as `expand` does."""
    with services.read() as session:
        row = versions.active(session, collection_id)
    if row is None:
        return Plan(kind=kind, model=how, n_chunks=0)
    name = writer_for(services, services.indexes.open(row.id), kind, how).name
    with services.read() as session:
        lacking = expansions.n_missing(session, collection_id, row.chunker_fingerprint, kind, name)
    return Plan(kind=kind, model=name, n_chunks=lacking)


class Keeping:
    """Makes what documents that came later lack, for the kinds that collections keep up."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looked = 0.0
        self._done: dict[tuple[int, str], tuple[str, int]] = {}

    def step(self, stop: Callable[[], bool]) -> bool:
        """Looks after one kind in one collection where something changed; False when there was none."""
        now = time.monotonic()
        if now - self._looked < PAUSE_SECONDS:
            return False
        self._looked = now
        with self._services.read() as session:
            kept_up = expansions.all_wanted(session)
        for collection_id, kind, how in kept_up:
            with self._services.read() as session:
                row = versions.active(session, collection_id)
            if row is None or stop():
                continue
            # Tried once for each state, whatever comes of it: what fails now fails in a minute too.
            state = (row.id, row.change_number)
            if self._done.get((collection_id, kind)) != state:
                self._done[collection_id, kind] = state
                expand(self._services, collection_id, kind, cast(How, how), _until(stop))
                return True
        return False


def _until(stop: Callable[[], bool]) -> Say:
    def say(_stage: str, _done: int, _total: int) -> None:
        if stop():
            raise BuildStopped

    return say


def work(services: Services, collection_id: int, payload: Mapping[str, Any], say: Say) -> Mapping[str, Any]:
    """What a job of the kind `expand` does; its result says what came of it."""
    kind: ExpansionKind = payload["expand"]
    if payload.get("remove"):
        return {"kind": kind, "n_removed": remove(services, collection_id, kind, say)}
    how = chosen_how(services, kind)
    result = expand(services, collection_id, kind, how, say)
    keep_up(services, collection_id, kind, how)
    return asdict(result)


def keep_up(services: Services, collection_id: int, kind: ExpansionKind, how: How) -> None:
    """From now on, documents that come later are expanded too."""
    with services.write() as session:
        expansions.want(session, collection_id, kind, how)
