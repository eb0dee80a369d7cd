"""The tree of summaries of a collection: grown, kept up, removed.

    documents    each long document has a tree of its own, kept in one transaction
    layers       over the tops of those and the chunks of short documents, layer upon layer

Every step looks at what is there and makes what is missing, so that a build that was killed goes on, and an
update is a build that finds most of its work done: a document whose chunks went has lost its nodes and all
that rests on them (`app.db.nodes`), and what stands without a node over it is clustered anew, by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.db import chunks, collections, jobs, trees, vectors, versions
from app.db import nodes as node_rows
from app.db.dialects import in_batches
from app.db.tables import CollectionRow, IndexVersionRow, JobRow
from app.db.trees import State
from app.errors import Busy
from app.language_model import needed
from app.versions import abandoned, nodes
from app.versions.building import Say, ensure_active, silent
from app.versions.preparing import encode_texts, vectors_of
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec
from indexing.files import checkpoint
from indexing.nodes import Node, NodeId
from indexing.tree.clustering import ClusterSpec
from indexing.tree.growing import FEW, Grower, Item, TreeSpec, collection_levels, tops
from indexing.tree.summaries import ExtractiveSummariser, LlmSummariser, Summariser
from indexing.types import DocumentId, Floats, text_hash

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services
    from app.settings import Settings, TreeSettings
    from indexing.language_model import LanguageModel

logger = logging.getLogger(__name__)

TREE = "tree"
"""The kind of job."""
DOCUMENTS_A_LOOK = 100
SUMMARIES_A_SAVE = 32
ANEW = 0.3
"""Where more of a layer stands without a node over it than this share, the layer is clustered as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStatus:
    """What a collection's tree is like: `behind` counts the changes that it has not seen.

    `levels` are the numbers of nodes by level, the lowest first.
    """

    collection: str
    model: str
    levels: Mapping[int, int]
    behind: int

    @property
    def n_nodes(self) -> int:
        return sum(self.levels.values())


def build(services: Services, collection_id: int, progress: Say | None = None) -> TreeStatus:
    """Grows the tree of a collection, or what of it is missing.

    Raises Busy (`tree_busy`) while another does, InvalidRequest where a language model is wanted and not
    set, and LanguageModelError where it fails; what was made until then stays.
    """
    with locked(services, collection_id):
        return _Build(services, ensure_active(services, collection_id), progress or silent).run()


def status(services: Services, collection_id: int) -> TreeStatus | None:
    """None where the collection has no tree."""
    with services.read() as session:
        row = collections.get(session, collection_id)
        state = trees.state(session, collection_id)
        if state is None:
            return None
        return TreeStatus(
            collection=row.name,
            model=state.model,
            levels=node_rows.levels(session, collection_id, state.chunker, "summary"),
            behind=row.change_number - max(state.change, 0),
        )


def remove(services: Services, collection_id: int) -> int:
    """Removes the tree of a collection from the database and its indexes; how many nodes went."""
    n_gone = 0
    with locked(services, collection_id):
        with services.write() as session:
            trees.keep_state(session, collection_id, None)
        while True:
            with services.write() as session:
                collections.lock(session, collection_id)
                n = node_rows.forget_kind(session, collection_id, "summary")
            if not n:
                break
            n_gone += n
        nodes.follow(services, ensure_active(services, collection_id))
    return n_gone


def enqueue(services: Services, collection_id: int) -> JobRow:
    """The job that grows the tree of a collection; the waiting one where there is one."""
    with services.write() as session:
        return jobs.enqueue(
            session,
            TREE,
            collection_id=collection_id,
            dedup_key=f"{TREE}:{collection_id}",
            max_attempts=services.settings.worker.max_attempts,
        ).job


def keep_up(services: Services) -> int:
    """Asks for updates of the trees that have not seen every change; how many."""
    if not services.settings.tree.follow:
        return 0
    with services.read() as session:
        behind = [row.id for row, state in trees.all_states(session) if _is_behind(session, row, state)]
    for collection_id in behind:
        enqueue(services, collection_id)
    return len(behind)


def _is_behind(session: Session, row: CollectionRow, state: State) -> bool:
    # A version that was switched to meanwhile may lack nodes that were made since it was looked at.
    version = versions.active(session, row.id)
    other = version is not None and version.id != state.version
    return other or state.change < row.change_number


@contextmanager
def locked(services: Services, collection_id: int) -> Iterator[None]:
    """The tree is ours to change for the block. Raises Busy where another has it."""
    with ExitStack() as stack:
        name = f"{TREE}-{collection_id:016x}"
        try:
            stack.enter_context(
                abandoned.building_lock(services.settings.indexes_dir, name, timeout_seconds=0)
            )
        except TimeoutError as error:
            raise Busy("The tree is being worked on; try again in a moment.", code="tree_busy") from error
        yield


def summariser(settings: Settings, model: LanguageModel | None, encoder: Encoder) -> Summariser:
    """What the settings say writes summaries.

    Raises InvalidRequest (`llm_not_configured`) where that is a language model and none is set.
    """
    tree = settings.tree
    if tree.summarizer == "llm":
        model = needed(model, "A tree with summaries by a language model")
    if model is None or tree.summarizer == "extractive":
        return ExtractiveSummariser(count_tokens=encoder.count_tokens, max_tokens=tree.summary_tokens)
    return LlmSummariser(
        model=model, max_tokens=tree.summary_tokens, timeout_seconds=settings.llm.timeout_seconds
    )


def spec_of(settings: TreeSettings) -> TreeSpec:
    """How the settings say that trees grow."""
    clustering = ClusterSpec(max_tokens=settings.cluster_tokens)
    return TreeSpec(clustering=clustering, long_document=settings.long_document)


class _Build:
    """One build, or update, of a tree."""

    def __init__(self, services: Services, row: IndexVersionRow, say: Say) -> None:
        self._services = services
        self._row = row
        self._say = say
        self._encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
        self._summariser = summariser(services.settings, services.language_model, self._encoder)
        self._asks = isinstance(self._summariser, LlmSummariser)
        self._of = (row.collection_id, row.chunker_fingerprint)
        self._spec = spec_of(services.settings.tree)

    def run(self) -> TreeStatus:
        with self._services.read() as session:
            reached = collections.get(session, self._row.collection_id).change_number
            sizes = trees.n_chunks_by_document(session, *self._of)
            before = trees.state(session, self._row.collection_id)
        state = State(model=self._summariser.name, chunker=self._row.chunker_fingerprint)
        if before is not None and (before.model, before.chunker) == (state.model, state.chunker):
            state = before
        self._keep(state)
        items = self._documents(sizes)
        for level in collection_levels():
            items = self._layer(items, level, state)
            checkpoint("tree-layer")
        checkpoint("tree-grown")
        nodes.follow(self._services, self._row, lambda done, total: self._say("index", done, total))
        self._keep(replace(state, change=reached, level=0, version=self._row.id))
        found = status(self._services, self._row.collection_id)
        assert found is not None
        extra = {"action": "tree_built", "collection": found.collection, "n_nodes": found.n_nodes}
        logger.info("tree built", extra=extra)
        return found

    def _documents(self, sizes: Mapping[int, int]) -> list[Item]:
        """The tops of the trees of long documents, which are grown where need be, and all other chunks."""
        items: list[Item] = []
        done = 0
        for batch in in_batches(sizes, DOCUMENTS_A_LOOK):
            with self._services.read() as session:
                kept = trees.kept(session, *self._of, document_ids=batch)
            by_document: dict[int, dict[NodeId, Node]] = {document_id: {} for document_id in batch}
            for node_id, node in kept.items():
                by_document[node.document_id or 0][node_id] = node
            whole = {key for key in batch if self._is_whole(sizes[key], by_document[key])}
            members = self._chunks([key for key in batch if key not in whole])
            for document_id in batch:
                self._say("documents", done, len(sizes))
                done += 1
                if document_id in whole:
                    items += self._as_items(_tops(by_document[document_id]))
                else:
                    owner = DocumentId(document_id)
                    items += self._document(owner, members.get(owner, []), by_document[document_id])
        self._say("documents", done, len(sizes))
        return items

    def _document(
        self, document_id: DocumentId, members: Sequence[Item], kept: Mapping[NodeId, Node]
    ) -> list[Item]:
        """What stands at the top of a document, whose tree is grown anew if it is long."""
        grower = self._grower(kept)
        layers = list(grower.document_tree(members, document_id)) if grower.is_long(len(members)) else []
        made = [node for layer in layers for node in layer]
        self._replace(kept.keys() - {node.id for node in made}, made)
        checkpoint("tree-document")
        return self._as_items({node.id: node for node in tops(layers)}) if made else list(members)

    def _is_whole(self, n_chunks: int, kept: Mapping[NodeId, Node]) -> bool:
        """Whether every chunk has a node over it, and every node what it needs, of the same model."""
        below = {key for node in kept.values() for key in node.chunks}
        few = sum(node.level == 1 for node in kept.values()) <= FEW
        upper = {key for node in kept.values() for key in node.nodes}
        return (
            n_chunks >= self._spec.long_document
            and len(below) == n_chunks
            and all(node.model == self._summariser.name for node in kept.values())
            and (few or all(key in upper for key, node in kept.items() if node.level == 1))
        )

    def _layer(self, items: Sequence[Item], level: int, state: State) -> list[Item]:
        """The layer over some items: what is kept of it, and over what stands without a node a new part."""
        with self._services.read() as session:
            kept = trees.kept(session, *self._of, level=level)
        members = {item.id: item for item in items}
        sound = {key: node for key, node in kept.items() if self._is_sound(node, members)}
        if len(items) <= FEW:
            self._replace(kept.keys(), [])
            return []
        self._replace(kept.keys() - sound.keys(), [])
        covered = {key for node in sound.values() for key in (*node.chunks, *node.nodes)}
        bare = [item for item in items if item.id not in covered]
        if not sound or state.level == level or len(bare) > ANEW * len(items):
            return self._layer_anew(items, level, state, sound)
        for clusters, old in self._patches(bare, sound, members):
            self._replace(old, self._grower({}).summaries(clusters, level))
        with self._services.read() as session:
            return self._as_items(trees.kept(session, *self._of, level=level))

    def _is_sound(self, node: Node, members: Mapping[int, Item]) -> bool:
        return node.model == self._summariser.name and all(
            key in members for key in (*node.chunks, *node.nodes)
        )

    def _layer_anew(
        self, items: Sequence[Item], level: int, state: State, kept: Mapping[NodeId, Node]
    ) -> list[Item]:
        """The layer clustered as a whole; what is kept and is to be again is not written anew."""
        self._keep(replace(state, level=level))
        grower = self._grower(kept)
        planned = grower.plan(items)
        made: dict[NodeId, Node] = {}
        for done, batch in enumerate(in_batches(planned, SUMMARIES_A_SAVE)):
            self._say(f"layer {level}", done * SUMMARIES_A_SAVE, len(planned))
            new = grower.summaries(batch, level)
            self._replace([], new)
            made |= {node.id: node for node in new}
            checkpoint("tree-layer")
        self._say(f"layer {level}", len(planned), len(planned))
        self._replace(kept.keys() - made.keys(), [])
        self._keep(replace(state, level=0))
        return self._as_items(made)

    def _patches(
        self, bare: Sequence[Item], kept: Mapping[NodeId, Node], members: Mapping[int, Item]
    ) -> Iterator[tuple[list[tuple[Item, ...]], list[NodeId]]]:
        """Clusters of what stands without a node, and which nodes they replace.

        Two or more are clustered by themselves; one alone joins the cluster of the nearest node, which is
        split where that makes it too large.
        """
        grower = self._grower({})
        if len(bare) != 1:
            yield grower.plan(bare), []
            return
        vectors = self._vectors([node.text for node in kept.values()])
        nearest = list(kept)[int((vectors @ bare[0].vector).argmax())]
        joined = [members[key] for key in (*kept[nearest].chunks, *kept[nearest].nodes)] + [bare[0]]
        yield grower.split(joined), [nearest]

    def _replace(self, old: Collection[NodeId], new: Sequence[Node]) -> None:
        """Takes nodes out, with all that rests on them, and keeps others, in one transaction."""
        if new:
            self._vectors([node.text for node in new])
        if old or new:
            with self._services.write() as session:
                collections.lock(session, self._row.collection_id)
                node_rows.forget(session, old)
                node_rows.save(session, *self._of, new)

    def _grower(self, kept: Mapping[NodeId, Node]) -> Grower:
        known = {
            frozenset((*node.chunks, *node.nodes)): node.text
            for node in kept.values()
            if node.model == self._summariser.name
        }
        return Grower(
            spec=self._spec,
            summariser=self._summariser,
            encode=self._vectors,
            count_tokens=self._encoder.count_tokens,
            known=known,
            n_parallel=self._services.settings.llm.max_parallel if self._asks else 1,
        )

    def _chunks(self, document_ids: Sequence[int]) -> dict[DocumentId, list[Item]]:
        """The chunks of documents, in reading order."""
        with self._services.read() as session:
            rows = list(chunks.of_documents(session, document_ids, self._of[1], self._encoder.fingerprint))
        if not rows:
            return {}
        vectors = vectors_of(self._services, self._encoder, rows)
        sizes = self._encoder.count_tokens([row.text for row in rows])
        found: dict[DocumentId, list[Item]] = {}
        for row, vector, n_tokens in zip(rows, vectors, sizes, strict=True):
            owner = DocumentId(row.document_id)
            item = Item(
                id=row.chunk_id,
                is_node=False,
                text=row.text,
                vector=vector,
                n_tokens=n_tokens,
                document_id=owner,
            )
            found.setdefault(owner, []).append(item)
        return found

    def _as_items(self, found: Mapping[NodeId, Node]) -> list[Item]:
        return self._grower({}).as_items(list(found.values()))

    def _vectors(self, texts: Sequence[str]) -> Floats:
        """The vectors of summaries; they are encoded once and kept."""
        by_hash = {text_hash(text): text for text in texts}
        fingerprint = self._encoder.fingerprint
        with self._services.read() as session:
            kept = vectors.load(session, fingerprint, by_hash)
        missing = {key: text for key, text in by_hash.items() if key not in kept}
        if missing:
            encode_texts(self._services, self._encoder, missing)
            with self._services.read() as session:
                kept |= vectors.load(session, fingerprint, missing)
        joined = b"".join(kept[text_hash(text)] for text in texts)
        return np.frombuffer(joined, dtype="<f2").reshape(len(texts), -1).astype(np.float32)

    def _keep(self, state: State) -> None:
        with self._services.write() as session:
            trees.keep_state(session, self._row.collection_id, state)


def _tops(kept: Mapping[NodeId, Node]) -> dict[NodeId, Node]:
    """The nodes of a document on which none of it rests."""
    below = {key for node in kept.values() for key in node.nodes}
    return {key: node for key, node in kept.items() if key not in below}
