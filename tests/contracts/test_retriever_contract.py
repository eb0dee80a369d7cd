"""What every first-stage retriever promises, tried with each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.encoding.sparse import sparse_settings
from indexing.encoding.sparse_fake import WordSparseEncoder
from indexing.snapshot import Snapshot
from indexing.sparse_codes import SparseCodes
from indexing.types import ChunkId, DocumentId
from indexing.version import VersionWriter, create_version
from retrievers.base import Retriever
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.ensemble import EnsembleRetriever
from retrievers.expanded import ExpandedRetriever
from retrievers.funnel import FunnelRetriever
from retrievers.fused import FusedRetriever, FusionSpec, Part
from retrievers.fusion import Method
from retrievers.hybrid import HybridRetriever
from retrievers.late_interaction import LateInteractionRetriever
from retrievers.ngram import NgramRetriever
from retrievers.nodes import Nodes
from retrievers.prf import PrfRetriever
from retrievers.questions import QuestionsRetriever
from retrievers.rank_bm25 import RankBm25Retriever
from retrievers.sparse import SparseRetriever
from retrievers.tree import CollapsedTreeRetriever, Tree, TreeTraversalRetriever, TreeTuning
from retrievers.types import Hit, Query
from tests.small_index import SmallChunks, build_index, made_up_chunks, small_spec, unit_vectors
from tests.unit.retrievers.test_late_interaction import build_token_index, tokens_of

FORMER = made_up_chunks(50, seed=14)
"""What is overwritten: the same ids get other content, those of `LATER`."""
LATER = SmallChunks(
    chunk_ids=FORMER.chunk_ids,
    document_ids=FORMER.document_ids,
    texts=["night"] * len(FORMER),
    vectors=-FORMER.vectors,
)
OTHERS = made_up_chunks(230, seed=12)
CHUNKS = SmallChunks(
    chunk_ids=np.concatenate([LATER.chunk_ids, OTHERS.chunk_ids]),
    document_ids=np.concatenate([LATER.document_ids, OTHERS.document_ids]),
    texts=[*LATER.texts, *OTHERS.texts],
    vectors=np.concatenate([LATER.vectors, OTHERS.vectors]),
)
DOCUMENTS = np.unique(CHUNKS.document_ids)
TEXTS = ("river", "stone bridge paper", "harbour letter copper salt engine", "zebra", "")
VECTORS = unit_vectors(len(TEXTS), CHUNKS.vectors.shape[1], np.random.default_rng(13))
QUERIES = [Query(text=text, vector=vector) for text, vector in zip(TEXTS, VECTORS, strict=True)]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    batches = [OTHERS.rows(slice(start, start + 80)) for start in range(0, len(OTHERS), 80)]
    with build_index(tmp_path_factory.mktemp("contract") / "v", FORMER, LATER, *batches) as opened:
        yield opened


class RetrieverContract:
    """Subclasses say how to make the retriever over `CHUNKS`, which the snapshot holds."""

    make: ClassVar[Callable[[Snapshot], Retriever]]

    @pytest.fixture(scope="class")
    @classmethod
    def retriever(cls, snapshot: Snapshot) -> Retriever:
        return cls.make(snapshot)

    def test_hits_are_ranked_from_one_best_first_ties_by_chunk_id(self, retriever: Retriever) -> None:
        for hits in retriever.retrieve(QUERIES, 50):
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            assert [(-hit.score, hit.chunk_id) for hit in hits] == sorted(
                (-h.score, h.chunk_id) for h in hits
            )
            assert len({hit.chunk_id for hit in hits}) == len(hits)

    def test_hits_name_the_document_of_the_chunk(self, retriever: Retriever) -> None:
        document_of = dict(zip(CHUNKS.chunk_ids.tolist(), CHUNKS.document_ids.tolist(), strict=True))
        for hits in retriever.retrieve(QUERIES, 300):
            assert all(document_of[hit.chunk_id] == hit.document_id for hit in hits)

    def test_hits_keep_raw_scores(self, retriever: Retriever) -> None:
        (hits,) = retriever.retrieve(QUERIES[:1], 5)
        assert all(hit.scores and all(np.isfinite(list(hit.scores.values()))) for hit in hits)

    def test_what_its_parts_add_is_the_score(self, retriever: Retriever) -> None:
        """Where several scores make the one, the shares say how; a single one is it."""
        for hits in retriever.retrieve(QUERIES, 300):
            for hit in hits:
                parts = hit.scores if len(hit.scores) == 1 and not hit.shares else hit.shares
                assert sum(parts.values()) == pytest.approx(hit.score, rel=1e-5, abs=1e-6)

    @pytest.mark.parametrize("top_k", [1, 2, 5, 10, 40, 99])
    def test_a_shorter_result_is_a_prefix(self, retriever: Retriever, top_k: int) -> None:
        longer = retriever.retrieve(QUERIES, 100)
        assert retriever.retrieve(QUERIES, top_k) == [hits[:top_k] for hits in longer]

    def test_a_batch_gives_what_single_queries_give(self, retriever: Retriever) -> None:
        assert retriever.retrieve(QUERIES, 10) == [retriever.retrieve([query], 10)[0] for query in QUERIES]

    def test_no_queries_give_no_lists(self, retriever: Retriever) -> None:
        assert retriever.retrieve([], 10) == []

    def test_threads_get_what_one_thread_gets(self, retriever: Retriever) -> None:
        expected = [retriever.retrieve([query], 10) for query in QUERIES]
        with ThreadPoolExecutor(8) as threads:
            assert (
                list(threads.map(lambda query: retriever.retrieve([query], 10), QUERIES * 10))
                == expected * 10
            )

    # the same test stands in every subclass, and is meant to
    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        allowed=st.sets(st.sampled_from([*DOCUMENTS.tolist(), 1, 2, 3])),
        number=st.integers(0, len(QUERIES) - 1),
        top_k=st.integers(1, 300),
    )
    def test_a_filter_is_kept_and_costs_no_hit(
        self, retriever: Retriever, allowed: set[int], number: int, top_k: int
    ) -> None:
        query = QUERIES[number]
        filtered = Query(
            text=query.text, vector=query.vector, allowed_documents=np.array(sorted(allowed), dtype=np.int64)
        )
        found = {hit.chunk_id for hit in retriever.retrieve([query], 1000)[0] if hit.document_id in allowed}

        (hits,) = retriever.retrieve([filtered], top_k)

        assert {hit.document_id for hit in hits} <= allowed
        assert len(hits) == min(top_k, len(found))
        if top_k >= len(found):
            assert {hit.chunk_id for hit in hits} == found


class TestBm25(RetrieverContract):
    make = staticmethod(lambda snapshot: Bm25Retriever(snapshot))

    def test_a_filter_changes_no_score(self, retriever: Retriever) -> None:
        assert_filter_only_removes(retriever)


class TestDense(RetrieverContract):
    make = staticmethod(lambda snapshot: DenseRetriever(snapshot))

    def test_a_filter_changes_no_score(self, retriever: Retriever) -> None:
        assert_filter_only_removes(retriever)

    def test_a_query_without_a_vector_is_refused(self, retriever: Retriever) -> None:
        with pytest.raises(ValueError, match="vector"):
            retriever.retrieve([Query(text="river")], 5)


class TestSparse(RetrieverContract):
    @pytest.fixture(scope="class")
    @classmethod
    def retriever(cls, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
        directory, encoder = tmp_path_factory.mktemp("sparse") / "v", WordSparseEncoder()
        create_version(directory, replace(small_spec(), settings=sparse_settings(encoder)))
        with VersionWriter(directory) as writer:
            for change, batch in enumerate((FORMER, LATER, OTHERS), start=1):
                codes = SparseCodes.of(encoder.encode_documents(batch.texts))
                with writer.commit(change=change) as commit:
                    commit.add(**batch.columns(), sparse=codes)
        return SparseRetriever(Snapshot.open(directory), encoder)

    def test_a_filter_changes_no_score(self, retriever: Retriever) -> None:
        assert_filter_only_removes(retriever)


class TestFunnel(RetrieverContract):
    make = staticmethod(lambda snapshot: FunnelRetriever(snapshot, first_dim=4))


class TestHalvingFunnel(RetrieverContract):
    make = staticmethod(lambda snapshot: FunnelRetriever(snapshot, first_dim=4, steps="halving"))


class TestLateInteraction(RetrieverContract):
    """Over an index with the token vectors of the chunks' words; the queries have theirs."""

    make = staticmethod(lambda snapshot: _WithTokens(snapshot))

    @pytest.fixture(scope="class")
    @classmethod
    def snapshot(cls, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
        return build_token_index(tmp_path_factory.mktemp("tokens") / "v", CHUNKS)


class _WithTokens:
    """Gives queries their token vectors, as the pipeline does for the mode."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._retriever = LateInteractionRetriever(snapshot)

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return self._retriever.retrieve(
            [replace(query, tokens=tokens_of(query.text)) for query in queries], top_k
        )


class TestConvex(RetrieverContract):
    make = staticmethod(lambda snapshot: HybridRetriever(snapshot))


class TestReciprocalRanks(RetrieverContract):
    make = staticmethod(lambda snapshot: HybridRetriever(snapshot, method="rrf"))


class TestAuto(RetrieverContract):
    make = staticmethod(lambda snapshot: EnsembleRetriever(snapshot))


class TestVectorFeedback(RetrieverContract):
    make = staticmethod(lambda snapshot: PrfRetriever(snapshot))


def fused(snapshot: Snapshot, method: Method) -> Retriever:
    """Three lists, of which one rests on the others."""
    parts = {
        "bm25": Part(retriever=Bm25Retriever(snapshot)),
        "dense": Part(retriever=DenseRetriever(snapshot), infimum=lambda _query: -1.0),
        "rrf": Part(retriever=HybridRetriever(snapshot, method="rrf")),
    }
    return FusedRetriever(parts, FusionSpec(retrievers=tuple(parts), method=method))


class TestFusedByRanks(RetrieverContract):
    make = staticmethod(lambda snapshot: fused(snapshot, "rrf"))


class TestFusedConvex(RetrieverContract):
    make = staticmethod(lambda snapshot: fused(snapshot, "convex"))


class TestFusedMinMax(RetrieverContract):
    make = staticmethod(lambda snapshot: fused(snapshot, "min_max"))


class TestFusedByDistribution(RetrieverContract):
    make = staticmethod(lambda snapshot: fused(snapshot, "dbsf"))


class TestRankBm25(RetrieverContract):
    @staticmethod
    def make(snapshot: Snapshot) -> Retriever:
        ids = zip(CHUNKS.chunk_ids.tolist(), CHUNKS.document_ids.tolist(), CHUNKS.texts, strict=True)
        return RankBm25Retriever(
            (ChunkId(chunk), DocumentId(document), text) for chunk, document, text in ids
        )

    def test_a_filter_changes_no_score(self, retriever: Retriever) -> None:
        assert_filter_only_removes(retriever)


class TestNgram(RetrieverContract):
    @staticmethod
    def make(snapshot: Snapshot) -> Retriever:
        texts = dict(zip(CHUNKS.chunk_ids.tolist(), CHUNKS.texts, strict=True))
        return NgramRetriever(snapshot, lambda chunk_ids: [texts[key] for key in chunk_ids])

    def test_a_filter_changes_no_score(self, retriever: Retriever) -> None:
        assert_filter_only_removes(retriever)


@pytest.mark.parametrize("make", [Bm25Retriever, DenseRetriever, HybridRetriever])
def test_the_chunks_have_ties_to_break(snapshot: Snapshot, make: Callable[[Snapshot], Retriever]) -> None:
    (hits,) = make(snapshot).retrieve(QUERIES[1:2], 300)
    assert len({hit.score for hit in hits}) < len(hits)


def assert_filter_only_removes(retriever: Retriever) -> None:
    allowed = DOCUMENTS[::3]
    for query in QUERIES:
        everything = retriever.retrieve([query], 1000)[0]
        filtered = Query(text=query.text, vector=query.vector, allowed_documents=allowed)
        expected = [(hit.chunk_id, hit.score) for hit in everything if hit.document_id in allowed]
        assert [_pair(hit) for hit in retriever.retrieve([filtered], 1000)[0]] == expected


def _pair(hit: Hit) -> tuple[int, float]:
    return hit.chunk_id, hit.score


class TestCollapsedTree(RetrieverContract):
    make = staticmethod(lambda snapshot: CollapsedTreeRetriever(tree_over(snapshot)))


class TestTreeTraversal(RetrieverContract):
    make = staticmethod(lambda snapshot: TreeTraversalRetriever(tree_over(snapshot)))


def tree_over(snapshot: Snapshot) -> Tree:
    """A tree whose nodes are some of the chunks themselves: each leads to ten chunks, two lead to nodes."""
    ids = np.sort(CHUNKS.chunk_ids)
    first = {int(ids[10 * n]): ids[10 * n : 10 * n + 10].tolist() for n in range(8)}
    roots = {int(ids[101]): sorted(first)[:5], int(ids[102]): sorted(first)[4:]}
    leaves = first | {key: sorted({leaf for n in below for leaf in first[n]}) for key, below in roots.items()}
    nodes = Nodes(
        open=lambda _kind: snapshot,
        leaves=lambda keys: {key: np.array(leaves.get(key, []), dtype=np.int64) for key in keys},
        children=lambda keys: {key: (first.get(key, []), roots.get(key, [])) for key in keys},  # type: ignore[arg-type]
        roots=lambda _kind: np.array(sorted(roots), dtype=np.int64),
    )
    return Tree(snapshot=snapshot, summaries=snapshot, nodes=nodes, tuning=TreeTuning(k=1))


class TestExpanded(RetrieverContract):
    make = staticmethod(lambda snapshot: ExpandedRetriever(snapshot, nodes_about(snapshot, "expansion")))

    def test_it_is_the_sum_over_both_fields(self, snapshot: Snapshot, retriever: Retriever) -> None:
        """Against a loop over all chunks and nodes."""
        nodes = nodes_about(snapshot, "expansion")
        expansions = nodes.open("expansion")
        assert expansions is not None
        for query in QUERIES:
            by_text = snapshot.lexical.score(query.text, CHUNKS.chunk_ids)
            expected = {}
            for chunk_id, score in zip(CHUNKS.chunk_ids.tolist(), by_text, strict=True):
                heads = np.array(nodes.heads("expansion", [chunk_id]).get(chunk_id, ()), dtype=np.int64)
                best = max([0.0, *expansions.lexical.score(query.text, heads).tolist()])
                if score or best:
                    expected[chunk_id] = score + 0.5 * best
            (hits,) = retriever.retrieve([query], 1000)
            assert {hit.chunk_id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)


class TestQuestions(RetrieverContract):
    make = staticmethod(lambda snapshot: QuestionsRetriever(snapshot, nodes_about(snapshot, "question")))

    def test_it_is_the_highest_of_all_vectors_of_a_chunk(
        self, snapshot: Snapshot, retriever: Retriever
    ) -> None:
        """Against a loop over all chunks and nodes."""
        nodes = nodes_about(snapshot, "question")
        questions = nodes.open("question")
        assert questions is not None
        for query in QUERIES:
            assert query.vector is not None
            own = snapshot.vectors.score(query.vector, CHUNKS.chunk_ids)
            expected = {}
            for chunk_id, score in zip(CHUNKS.chunk_ids.tolist(), own.tolist(), strict=True):
                heads = np.array(nodes.heads("question", [chunk_id]).get(chunk_id, ()), dtype=np.int64)
                expected[chunk_id] = max([score, *questions.vectors.score(query.vector, heads).tolist()])
            (hits,) = retriever.retrieve([query], 1000)
            assert {hit.chunk_id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)

    def test_every_chunk_comes_back(self, retriever: Retriever) -> None:
        (hits,) = retriever.retrieve(QUERIES[:1], 1000)
        assert len(hits) == len(CHUNKS)


def nodes_about(snapshot: Snapshot, kind: str) -> Nodes:
    """Nodes about every third chunk, two about every sixth, one about a chunk that is not in the index."""
    about = np.concatenate([CHUNKS.chunk_ids[::3], CHUNKS.chunk_ids[::6], [5]])
    owners = np.concatenate([CHUNKS.document_ids[::3], CHUNKS.document_ids[::6], CHUNKS.document_ids[:1]])
    others = made_up_chunks(len(about), seed=21)
    made = SmallChunks(
        chunk_ids=others.chunk_ids, document_ids=owners, texts=others.texts, vectors=others.vectors
    )
    directory = snapshot.directory.parent / kind
    opened = Snapshot.open(directory) if directory.exists() else build_index(directory, made)
    chunk_of = dict(zip(made.chunk_ids.tolist(), about.tolist(), strict=True))
    heads: dict[int, list[int]] = {}
    for node_id, chunk_id in chunk_of.items():
        heads.setdefault(chunk_id, []).append(node_id)
    return Nodes(
        open=lambda wanted: opened if wanted == kind else None,
        leaves=lambda _ids: {},
        children=lambda ids: {key: ([chunk_of[key]], []) for key in ids},  # type: ignore[misc]
        roots=lambda _kind: np.empty(0, dtype=np.int64),
        heads=lambda _kind, ids: {key: heads[key] for key in ids if key in heads},  # type: ignore[misc]
    )
