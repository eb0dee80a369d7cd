"""Golden questions: what is found at which rank, by a second opinion, and what is stale."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import documents
from app.db import golden as questions
from app.db.errors import VersionNotFound
from app.db.golden import Expected
from app.documents import intake
from app.errors import InvalidRequest, NotFound
from app.learning import golden, golden_files
from app.services import Services
from app.versions import building
from indexing.types import Chunk, ChunkId, DocumentId
from retrievers.types import Passage
from tests.unit.app.texts import PAGES, collection_id, ingest, submit
from tests.unit.retrievers_evaluation.collections import write_collection

LEASE = "A job returns to the queue when its lease ends."


@pytest.fixture
def filled(services: Services) -> Services:
    ingest(services, PAGES)
    return services


def passage(rank: int, start: int, end: int) -> Passage:
    chunk = Chunk(
        id=ChunkId(rank),
        document_id=DocumentId(1),
        ordinal=rank,
        text="x" * (end - start),
        start=start,
        end=end,
    )
    return Passage(chunk=chunk, score=1 / rank, rank=rank, title=None, source="a")


def served(services: Services) -> str:
    return building.ensure_active(services, collection_id(services)).id


def test_a_document_and_a_quotation_are_found_where_the_search_finds_them(filled: Services) -> None:
    golden.add(
        filled,
        "default",
        "when does the lease end",
        [Expected("leases.md"), Expected("tea.md", "Warm the pot")],
    )
    found = golden.run(filled, collection_id(filled))
    (outcome,) = found.outcomes
    assert [item.expected.source for item in outcome.items] == ["leases.md", "tea.md"]
    assert outcome.items[0].rank == 1
    assert outcome.items[1].rank in (2, 3)
    assert outcome.values == {
        "recall": 1.0,
        "mrr": 1.0,
        "ndcg": pytest.approx(golden.ndcg([item.rank for item in outcome.items])),
    }
    near = golden.run(filled, collection_id(filled), top_k=1)
    assert near.values("recall") == {str(outcome.question.id): 0.5}
    assert near.outcomes[0].items[1].rank is None


def test_recall_is_none_without_questions_and_a_number_with_some(filled: Services) -> None:
    owner, version = collection_id(filled), served(filled)
    assert golden.recall(filled, owner, version) is None
    golden.add(filled, "default", "lease", [Expected("leases.md")])
    assert golden.recall(filled, owner, version) == 1.0


def test_a_version_that_is_not_served_is_asked_itself(filled: Services) -> None:
    """It was built before the document came, and only the served one has followed."""
    owner = collection_id(filled)
    other = building.build(filled, owner).id
    ingest(filled, {"kettles.md": "Descale a kettle with vinegar."})
    golden.add(filled, "default", "how to descale a kettle", [Expected("kettles.md")])
    assert served(filled) != other
    assert golden.recall(filled, owner, served(filled)) == 1.0
    assert golden.recall(filled, owner, other) == 0.0
    with pytest.raises(VersionNotFound):
        golden.recall(filled, owner, "0" * 32)


def test_what_is_gone_is_stale_and_left_out_of_the_mean(filled: Services) -> None:
    golden.add(filled, "default", "lease", [Expected("leases.md")])
    golden.add(filled, "default", "pot", [Expected("tea.md"), Expected("leases.md", "The worker renews")])
    ingest(filled, {"leases.md": "# Leases\n\n" + LEASE})
    intake.delete(filled, documents.id_of("default", "tea.md"))
    found = golden.run(filled, collection_id(filled))
    assert [[item.stale for item in outcome.items] for outcome in found.outcomes] == [
        [None],
        ["document_missing", "quote_missing"],
    ]
    assert (found.n_measured, found.outcomes[1].values) == (1, None)
    assert golden.recall(filled, collection_id(filled), served(filled)) == 1.0
    intake.delete(filled, documents.id_of("default", "leases.md"))
    assert golden.recall(filled, collection_id(filled), served(filled)) is None


def test_a_document_that_no_one_ingested_yet_is_stale(services: Services) -> None:
    submit(services, "later.md", "warm the pot")
    golden.add(services, "default", "pot", [Expected("later.md", "not yet known")])
    (outcome,) = golden.run(services, collection_id(services)).outcomes
    assert outcome.items[0].stale == "document_not_ready"


def test_a_question_put_twice_expects_both_things_once(filled: Services) -> None:
    first = golden.add(filled, "default", "lease", [Expected("leases.md")])
    again = golden.add(filled, "default", " lease ", [Expected("leases.md"), Expected("tea.md")])
    assert first.id == again.id
    assert again.expected == (Expected("leases.md"), Expected("tea.md"))


def test_a_document_is_named_by_source_or_id_and_must_say_what_is_quoted(filled: Services) -> None:
    key = f"{documents.id_of('default', 'leases.md'):016x}"
    kept = golden.add(filled, "default", "lease", [Expected(key, "a  job\nreturns".replace("a", "A", 1))])
    assert kept.expected[0].source == "leases.md"
    with pytest.raises(InvalidRequest) as refused:
        golden.add(filled, "default", "lease", [Expected("leases.md", "a lease is a goat")])
    assert refused.value.code == "quote_not_found"
    with pytest.raises(NotFound) as missing:
        golden.add(filled, "default", "lease", [Expected("nowhere.md")])
    assert missing.value.code == "document_not_found"


def test_a_renamed_source_is_expected_under_its_new_name(filled: Services) -> None:
    owner = collection_id(filled)
    golden.add(filled, "default", "lease", [Expected("leases.md", "A job"), Expected("tea.md")])
    with filled.write() as session:
        assert questions.rename_source(session, owner, {"leases.md": "b.md", "fusion.md": "c.md"}) == 1
        (kept,) = questions.list_all(session, owner)
    assert kept.expected == (Expected("b.md", "A job"), Expected("tea.md"))


def test_two_versions_are_compared_question_by_question(filled: Services) -> None:
    owner = collection_id(filled)
    for word, source in (("lease", "leases.md"), ("alpha", "fusion.md"), ("pot", "tea.md")):
        golden.add(filled, "default", word, [Expected(source)])
    one = golden.run(filled, owner, mode="bm25")
    assert golden.compare(one, one).difference == 0  # type: ignore[union-attr]
    none = golden.GoldenRun(version_id=None, mode="bm25", top_k=10, outcomes=())
    assert golden.compare(one, none) is None
    mean = one.mean("recall")
    assert mean is not None
    assert (mean.mean, mean.low, mean.high) == (1.0, 1.0, 1.0)


cuts = st.lists(st.integers(0, 40), min_size=2, max_size=2, unique=True).map(sorted)


@given(span=cuts, pieces=st.lists(cuts, max_size=6))
def test_the_rank_of_a_quotation_by_counting_letters(span: list[int], pieces: list[list[int]]) -> None:
    passages = [passage(rank, *piece) for rank, piece in enumerate(pieces, start=1)]
    wanted = None
    for rank in range(len(pieces), 0, -1):
        letters = [n for n in range(*span) if any(a <= n < b for a, b in pieces[:rank])]
        if len(letters) >= (span[1] - span[0]) / 2:
            wanted = rank
    assert golden.rank_of_span((span[0], span[1]), passages) == wanted


@given(ranks=st.lists(st.one_of(st.none(), st.integers(1, 10)), min_size=1, max_size=12))
def test_metrics_lie_between_none_found_and_all_found(ranks: list[int | None]) -> None:
    for value in (golden.recall_of(ranks), golden.reciprocal_rank(ranks), golden.ndcg(ranks)):
        assert 0 <= value <= 1
        assert (value == 0) == all(rank is None for rank in ranks)


def test_files_of_every_kind_give_the_same_questions(tmp_path, filled: Services) -> None:
    wanted = [("What is a lease?", (Expected("leases.md", 'A job, "returns"'), Expected("tea.md")))]
    lines = (
        '{"question": "What is a lease?", "source": "leases.md", "quote": "A job, \\"returns\\""}\n\n'
        '{"question": " What is a lease?", "expected": [{"source": "tea.md"}, {"source": "tea.md"}]}\n'
    )
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.csv").write_text(
        "\ufeffquestion,source,quote\n"
        'What is a lease?,leases.md,"A job, ""returns"""\n'
        "What is a lease?,tea.md,\n"
    )
    assert golden_files.read(tmp_path / "a.jsonl") == wanted
    assert golden_files.read(tmp_path / "a.csv") == wanted
    assert golden.add_all(filled, "default", wanted) == 1
    with filled.read() as session:
        kept = questions.list_all(session, collection_id(filled))
    (tmp_path / "b.jsonl").write_text("\n".join(golden_files.write(kept)))
    assert golden_files.read(tmp_path / "b.jsonl") == wanted


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", "{", "line 1: not JSON"),
        ("a.jsonl", "\n[]", "line 2: not a JSON object"),
        ("a.jsonl", '{"question": " ", "source": "a"}', "there is no question"),
        ("a.jsonl", '{"question": "q"}', "there is no source"),
        ("a.jsonl", '{"question": "q", "expected": []}', "nothing is expected"),
        ("a.jsonl", '{"question": "q", "source": "a", "quote": 1}', "the quote is no text"),
        ("a.csv", "query,document\n", "must name the columns"),
        ("a.csv", "question,source\nq,\n", "line 2: there is no source"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_line(tmp_path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest, match=said) as refused:
        golden_files.read(tmp_path / name)
    assert refused.value.code == "invalid_golden_file"


def test_a_beir_folder_gives_its_judged_queries(tmp_path) -> None:
    folder = write_collection(
        tmp_path / "fruit", splits={"test": {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 0}}}
    )
    ((question, expected),) = golden_files.read(folder)
    assert question
    assert expected == (Expected("d1"),)
