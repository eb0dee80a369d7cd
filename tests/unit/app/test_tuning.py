"""Tuning a collection: a planted gain is adopted and used, what is no gain is refused."""

from __future__ import annotations

import pytest

from app.db.errors import CollectionNotFound
from app.db.golden import Expected
from app.errors import InvalidRequest
from app.learning import golden, tuning
from app.search.searching import SearchRequest, search
from app.services import Services
from retrievers.fused import FusionSpec
from tests.unit.app.texts import collection_id, ingest

N = 32


def name(number: int) -> str:
    """A rare word of letters alone, so that no analyzer cuts it."""
    return "zep" + "".join(chr(ord("a") + int(digit)) for digit in f"{number:03d}") + "lin"


def plant(services: Services, n_questions: int = N) -> None:
    """Each question has one rare word, which BM25 knows the worth of; the vectors follow the common ones."""
    pages = {f"page{i}.md": f"{name(i)} stands beside other things here" for i in range(n_questions)}
    pages |= {f"kettle{i}.md": f"mend the old iron kettle {i}" for i in range(n_questions + 8)}
    ingest(services, pages)
    golden.add_all(services, "default", [(asked(i), [Expected(f"page{i}.md")]) for i in range(n_questions)])


def asked(number: int) -> str:
    return f"mend old iron kettle {name(number)}"


def first(services: Services) -> str:
    request = SearchRequest(query=asked(3), mode="hybrid", top_k=1)
    return search(services, request).passages[0].source


def test_a_planted_gain_is_adopted_used_shown_and_undone(services: Services) -> None:
    plant(services)
    assert first(services) != "page3.md"
    tried = tuning.tune(services, "default", mode="hybrid", dry_run=True)
    assert (tried.decision.verdict, tried.kept) == ("adopted", False)
    assert tuning.show(services, "default") is None

    done = tuning.tune(services, "default", mode="hybrid")
    assert done.kept
    assert done.decision.chosen["alpha"] < 0.8
    assert done.decision.low > 0.1
    assert first(services) == "page3.md"
    shown = tuning.show(services, "default")
    assert shown is not None
    assert shown.values == done.decision.chosen
    assert (shown.evidence["n_questions"], shown.evidence["questions"]) == (N, "golden")

    # What is tried anew starts from what was adopted.
    again = tuning.tune(services, "default", mode="hybrid")
    assert again.decision.verdict in ("already_best", "within_noise")
    assert tuning.reset(services, "default")
    assert not tuning.reset(services, "default")
    assert first(services) != "page3.md"


def test_the_weights_of_a_fusion_are_learned_and_used_where_none_is_named(services: Services) -> None:
    plant(services)
    fusion = FusionSpec(retrievers=("bm25", "dense", "prf"), method="convex", weights={"bm25": 0.1})

    def fused(**fields: FusionSpec) -> str:
        request = SearchRequest(query=asked(3), mode="fused", top_k=1, **fields)  # type: ignore[arg-type]
        return search(services, request).passages[0].source

    assert fused(fusion=fusion) != "page3.md"
    done = tuning.tune(services, "default", fusion=fusion)
    assert (done.mode, done.kept, done.decision.verdict) == ("fused", True, "adopted")
    assert sum(done.decision.chosen.values()) == pytest.approx(1)
    assert done.decision.chosen["bm25"] > 0.1
    shown = tuning.show(services, "default")
    assert shown is not None
    learned = FusionSpec.of_values(shown.values["fusion"])
    assert learned == fusion.weighed(done.decision.chosen)
    assert shown.evidence["fusion"] == fusion.values()
    assert fused() == "page3.md"
    assert fused(fusion=fusion) != "page3.md"  # what a request names counts
    assert first(services) != "page3.md"  # other modes have other weights

    again = tuning.tune(services, "default", mode="fused")
    assert again.decision.chosen.keys() == done.decision.chosen.keys()
    assert not again.kept


def test_what_is_no_fusion_is_refused(services: Services) -> None:
    plant(services, 2)
    with pytest.raises(InvalidRequest, match="magic") as refused:
        tuning.tune(services, "default", fusion=FusionSpec(retrievers=("bm25", "magic")))
    assert refused.value.code == "invalid_fusion"
    with pytest.raises(InvalidRequest, match="hybrid"):
        tuning.tune(services, "default", mode="hybrid", fusion=FusionSpec())
    with pytest.raises(InvalidRequest, match="one retriever"):
        tuning.tune(services, "default", fusion=FusionSpec(retrievers=("bm25",)))


def test_too_few_questions_are_refused_whatever_the_gain(services: Services) -> None:
    plant(services, 8)
    found = tuning.tune(services, "default", mode="hybrid")
    assert (found.decision.verdict, found.kept) == ("too_few_questions", False)
    assert found.decision.gain > 0.1
    assert tuning.show(services, "default") is None


def test_what_is_right_already_stays(services: Services) -> None:
    ingest(services, {f"page{i}.md": f"{name(i)} and its {name(i)} story" for i in range(N)})
    golden.add_all(services, "default", [(name(i), [Expected(f"page{i}.md")]) for i in range(N)])
    found = tuning.tune(services, "default", mode="hybrid")
    assert (found.decision.verdict, found.kept) == ("already_best", False)
    assert found.decision.before == 1.0


def test_synthetic_questions_are_made_for_it_and_not_kept(services: Services) -> None:
    ingest(
        services,
        {
            f"page{i}.md": f"The {name(i)} is kept in a dry place near the {name(100 + i)} door."
            for i in range(6)
        },
    )
    found = tuning.tune(services, "default", mode="rrf", n_synthetic=6, min_questions=2)
    assert found.generator == "sentences-1"
    assert found.decision.n_questions == 6
    assert golden.run(services, collection_id(services)).outcomes == ()


def test_what_cannot_be_tuned_is_said(services: Services) -> None:
    with pytest.raises(InvalidRequest, match="golden questions") as refused:
        tuning.tune(services, "default")
    assert refused.value.code == "no_questions"
    golden.add_all(services, "default", [("gone", [Expected("gone.md")])])
    ingest(services, {"there.md": "Some text is there."})
    with pytest.raises(InvalidRequest, match="stale"):
        tuning.tune(services, "default", mode="hybrid")
    with pytest.raises(InvalidRequest, match="bm25"):
        tuning.tune(services, "default", mode="bm25")
    with pytest.raises(CollectionNotFound):
        tuning.tune(services, "nowhere")
