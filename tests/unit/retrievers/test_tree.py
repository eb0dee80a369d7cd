"""Tree retrieval against loops over the same numbers, and what a summary may lead to."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.nodes import NO_DOCUMENT
from retrievers.fusion import ScoredList, fuse
from retrievers.modes import MODES
from retrievers.nodes import Nodes
from retrievers.tree import CollapsedTreeRetriever, Tree, TreeTraversalRetriever, TreeTuning
from retrievers.types import Query
from tests.small_index import SmallChunks, build_index, made_up_chunks, unit_vectors

CHUNKS = made_up_chunks(60, seed=3)
N_NODES = 12


def made_up_nodes():
    """Ten nodes over six chunks each, two over five of those; the first half is of one document each."""
    rng = np.random.default_rng(5)
    vectors = unit_vectors(N_NODES, CHUNKS.vectors.shape[1], rng)
    ids = np.arange(N_NODES, dtype=np.int64) + 10**12
    chunks = {int(ids[n]): CHUNKS.chunk_ids[6 * n : 6 * n + 6].tolist() for n in range(10)}
    below = {int(ids[10]): ids[:5].tolist(), int(ids[11]): ids[5:10].tolist()}
    nodes = SmallChunks(
        chunk_ids=ids,
        document_ids=np.full(N_NODES, NO_DOCUMENT, dtype=np.int64),
        texts=["night river stone"] * N_NODES,
        vectors=vectors,
    )
    return nodes, chunks, below


NODES, LEAVES, BELOW = made_up_nodes()


def leaves_of(key):
    return sorted(LEAVES.get(key, [])) or sorted(leaf for node in BELOW[key] for leaf in LEAVES[node])


NODE_SOURCE = {
    "leaves": lambda keys: {key: np.array(leaves_of(key), dtype=np.int64) for key in keys},
    "children": lambda keys: {key: (LEAVES.get(key, []), BELOW.get(key, [])) for key in keys},
    "roots": lambda _kind: np.array(sorted(BELOW), dtype=np.int64),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    with build_index(folder / "v", CHUNKS) as snapshot, build_index(folder / "n", NODES) as summaries:
        yield snapshot, summaries


def tree_of(opened, **tuning):
    snapshot, summaries = opened
    nodes = Nodes(open=lambda _kind: summaries, **NODE_SOURCE)
    return Tree(snapshot=snapshot, summaries=summaries, nodes=nodes, tuning=TreeTuning(**tuning))


def rounded(vectors):
    return vectors.astype(np.float16).astype(np.float32)


def naive_collapsed(vector, tuning, allowed):
    """The formula, chunk by chunk."""
    owners = dict(zip(CHUNKS.chunk_ids.tolist(), CHUNKS.document_ids.tolist(), strict=True))
    rows = zip(CHUNKS.chunk_ids.tolist(), rounded(CHUNKS.vectors) @ vector, strict=True)
    cos = {key: float(c) for key, c in rows if allowed is None or owners[key] in allowed}
    n_terms = {
        key: len(text.split()) for key, text in zip(CHUNKS.chunk_ids.tolist(), CHUNKS.texts, strict=True)
    }
    node_cos = dict(zip(NODES.chunk_ids.tolist(), (rounded(NODES.vectors) @ vector).tolist(), strict=True))
    elements = [(-c, 0, key) for key, c in cos.items()] + [(-c, 1, key) for key, c in node_cos.items()]
    left, scores = tuning.budget_tokens, dict(cos)
    for negative, is_node, key in sorted(elements):
        size = 3 if is_node else n_terms[key]
        if size > left:
            continue
        left -= size
        if is_node:
            reachable = sorted((leaf for leaf in leaves_of(key) if leaf in cos), key=lambda i: (-cos[i], i))
            for leaf in reachable[: tuning.leaves]:
                brought = tuning.weight * -negative + (1 - tuning.weight) * cos[leaf]
                scores[leaf] = max(scores[leaf], brought)
    return scores


@pytest.mark.parametrize("budget", [0, 20, 60, 100_000])
@pytest.mark.parametrize("restricted", [False, True], ids=["all", "filtered"])
def test_collapsed_is_what_the_formula_says(opened, budget, restricted):
    tuning = TreeTuning(budget_tokens=budget, leaves=2, weight=0.6)
    allowed = set(np.unique(CHUNKS.document_ids)[::2].tolist()) if restricted else None
    for vector in unit_vectors(5, CHUNKS.vectors.shape[1], np.random.default_rng(8)):
        query = Query(
            text="",
            vector=vector,
            allowed_documents=None if allowed is None else np.array(sorted(allowed), dtype=np.int64),
        )
        tree = tree_of(opened, budget_tokens=budget, leaves=2, weight=0.6)
        (hits,) = CollapsedTreeRetriever(tree).retrieve([query], 100)
        expected = naive_collapsed(vector, tuning, allowed)
        assert {hit.chunk_id for hit in hits} == expected.keys()
        for hit in hits:
            assert hit.score == pytest.approx(expected[hit.chunk_id], abs=1e-4)


def test_a_lifted_hit_says_the_cosine_of_its_summary(opened):
    query = Query(text="", vector=NODES.vectors[3])
    (hits,) = CollapsedTreeRetriever(tree_of(opened, budget_tokens=3)).retrieve([query], 3)
    assert {hit.chunk_id for hit in hits} <= {*LEAVES[int(NODES.chunk_ids[3])], *CHUNKS.chunk_ids.tolist()}
    led = [hit for hit in hits if "node" in hit.scores]
    assert led
    assert all(hit.scores["node"] == pytest.approx(1, abs=1e-2) for hit in led)
    assert all(hit.chunk_id in LEAVES[int(NODES.chunk_ids[3])] for hit in led)


def test_a_summary_that_outlived_its_leaves_leads_nowhere(opened):
    snapshot, summaries = opened
    gone = {**NODE_SOURCE, "leaves": lambda keys: {key: np.array([5, 7], dtype=np.int64) for key in keys}}
    nodes = Nodes(open=lambda _kind: summaries, **gone)
    tree = Tree(snapshot=snapshot, summaries=summaries, nodes=nodes, tuning=TreeTuning())
    (hits,) = CollapsedTreeRetriever(tree).retrieve([Query(text="", vector=NODES.vectors[0])], 10)
    assert len(hits) == 10
    assert all("node" not in hit.scores for hit in hits)


def test_a_traversal_goes_down_the_nearest_nodes(opened):
    vector = unit_vectors(1, CHUNKS.vectors.shape[1], np.random.default_rng(9))[0]
    cosines = rounded(NODES.vectors) @ vector
    root = int(NODES.chunk_ids[10 + int(cosines[10:].argmax())])
    first = max(BELOW[root], key=lambda key: cosines[key - 10**12])
    (hits,) = TreeTraversalRetriever(tree_of(opened, k=1)).retrieve([Query(text="", vector=vector)], 6)
    assert {hit.chunk_id for hit in hits} == set(LEAVES[first])
    assert [hit.score for hit in hits] == sorted((hit.scores["dense"] for hit in hits), reverse=True)


def test_a_traversal_widens_until_it_has_enough(opened):
    query = Query(text="", vector=CHUNKS.vectors[0])
    (hits,) = TreeTraversalRetriever(tree_of(opened, k=1)).retrieve([query], 60)
    assert {hit.chunk_id for hit in hits} == set(CHUNKS.chunk_ids.tolist())
    assert min(hit.score for hit in hits) < -1


def test_what_a_widened_walk_found_adds_nothing_below_zero_to_a_fusion(opened):
    """A chunk that the traversal found late must not stand behind those that it did not find."""
    query = Query(text="", vector=CHUNKS.vectors[0])
    (hits,) = TreeTraversalRetriever(tree_of(opened, k=1)).retrieve([query], 60)
    ranking = ScoredList(
        ids=np.array([hit.chunk_id for hit in hits], dtype=np.int64),
        scores=np.array([hit.score for hit in hits], dtype=np.float32),
        infimum=MODES["tree_traversal"].infimum(query),
    )
    added = fuse({"tree_traversal": ranking}, "convex").shares["tree_traversal"]
    assert ranking.scores.min() < -1
    assert 0 == added.min() < added.max() == 1


def naive_walk(vector, k, budget):
    """Chunks under the nodes that a walk of two layers chooses, and whether it chose all."""
    cosines = dict(zip(NODES.chunk_ids.tolist(), (rounded(NODES.vectors) @ vector).tolist(), strict=True))
    reached, layer, is_all = set(), sorted(BELOW), True
    while layer:
        chosen = []
        for key in sorted(layer, key=lambda key: (-cosines[key], key))[:k]:
            if budget >= 3:  # every summary has three words
                budget -= 3
                chosen.append(key)
        is_all = is_all and len(chosen) == len(layer)
        reached |= {leaf for key in chosen for leaf in LEAVES.get(key, ())}
        layer = sorted({node for key in chosen for node in BELOW.get(key, ())})
    return reached, is_all


@pytest.mark.parametrize("budget", [0, 2, 3, 6, 9, 14, 100])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_traversal_keeps_to_its_budget_of_tokens(opened, budget, k):
    """Each doubling of k doubles the budget too."""
    for vector in unit_vectors(3, CHUNKS.vectors.shape[1], np.random.default_rng(11)):
        tree = tree_of(opened, k=k, budget_tokens=budget)
        (hits,) = TreeTraversalRetriever(tree).retrieve([Query(text="", vector=vector)], 6)
        expected = set()
        for turn in range(8):
            reached, is_all = naive_walk(vector, k << turn, budget << turn)
            expected |= reached
            if len(expected) >= 6 or is_all:
                break
        first = {hit.chunk_id for hit in hits}
        assert len(hits) == 6
        assert first <= expected if len(expected) >= 6 else expected <= first
