"""Long documents: taken part by part, stopped on the way, and refused where they do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from app.db import chunks, documents, loaded_texts, queue, removal, revisions
from app.db import jobs as records
from app.db.tables import JobRow, StagedChunkRow, TextPartRow
from app.documents import ingestion, intake
from app.services import Services, open_services
from app.versions import preparing
from app.versions.preparing import chunk_missing
from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Progress
from indexing.encoding.fake import WordEncoder
from indexing.loaders import LoaderPool
from indexing.long_text import LongText
from indexing.types import Encoding, LoadedText
from tests.service import settings_for
from tests.unit.app.texts import PAGES, WORKER, Board, Loaders, sources, submit

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PARAGRAPHS = [f"Paragraph {number} tells of subject {number * 7919 % 1000}.\n\n" for number in range(3000)]
LONG = LongText(
    ["".join(PARAGRAPHS[:1000]), "".join(PARAGRAPHS[1000:2000]), "".join(PARAGRAPHS[2000:]) + "😀"]
)
TOO_MUCH = "everything"


class SmallMemory(WordEncoder):
    """Has no room for one word; says how many texts it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        self.sizes.append(len(texts))
        if any(TOO_MUCH in text for text in texts):
            raise MemoryError
        return super().encode_documents(texts, with_tokens=with_tokens, progress=progress)


class LongLoaders(Loaders):
    """Gives a text in parts for one file."""

    def load(self, path: Path, *, filename: str) -> LoadedText:
        if filename == "long.txt":
            return LoadedText(text=LONG)
        return super().load(path, filename=filename)


@dataclass
class Desk(Board):
    """Lets jobs fail, and stops one at a stage."""

    stop: tuple[str, str] | None = None
    failed: dict[str, str] = field(default_factory=dict)
    said: list[tuple[str, int, int | None]] = field(default_factory=list)

    def progress(self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None) -> None:
        self.said.append((note, done, total))

    def fail(self, session: Session, job: JobRow, code: str, detail: str, *, retry: bool) -> None:
        assert retry == (job.attempts < ingestion.ATTEMPTS_WITHOUT_MEMORY)
        self.failed[job.payload["source"]] = detail
        queue.fail(session, WORKER, job.id, code=code, detail=detail)

    def is_stopped(self, job: JobRow) -> bool:
        return self.stop == (self.said[-1][0], job.payload["source"]) if self.said else False


@pytest.fixture
def encoder() -> SmallMemory:
    return SmallMemory()


@pytest.fixture
def services(home: Path, encoder: SmallMemory) -> Iterator[Services]:
    with open_services(settings_for(home, ""), load=lambda _spec, _dir: encoder) as opened:
        yield opened


def work(services: Services, board: Desk) -> None:
    with services.write() as session:
        batch = queue.claim(session, WORKER, [intake.INGEST], limit=100)
    ingestion.ingest(services, cast(LoaderPool, LongLoaders()), board, batch)


def statuses(services: Services) -> dict[str, str]:
    with services.read() as session:
        return {job.payload["source"]: job.status for job in records.list_page(session).items}


def n_further_parts(services: Services) -> int:
    with services.read() as session:
        return session.query(TextPartRow).count()


@pytest.mark.parametrize("chunks_a_transaction", [10, 1000])
def test_a_text_in_parts_becomes_searchable_and_is_kept_in_parts(
    services: Services, encoder: SmallMemory, monkeypatch: pytest.MonkeyPatch, chunks_a_transaction: int
) -> None:
    monkeypatch.setattr(ingestion, "TEXTS_A_SAVE", 20)
    monkeypatch.setattr(preparing, "CHUNKS_A_TRANSACTION", chunks_a_transaction)
    document_id = submit(services, "long.txt", "stands for the long one").document.id
    board = Desk()
    work(services, board)
    with services.read() as session:
        document = documents.get(session, document_id)
        made = chunks.of_document(session, document_id)
        assert "".join(revisions.text_parts(session, document_id, 1)) == LONG[: len(LONG)]
        assert revisions.n_text_parts(session, document_id, 1) == 3
        kept = loaded_texts.newest_text(session, document_id)
    assert kept is not None
    assert kept.loaded.text == LONG
    assert document.n_chunks == len(made) > 40
    assert all(LONG[chunk.start : chunk.end] == chunk.text for chunk in made)
    assert sources(services, "paragraph 2500 tells") == ["long.txt"] * 10
    encoded = [done for note, done, _ in board.said if note == "encode"]
    assert encoded == sorted(encoded)
    assert encoded[-1] == len(made)
    assert max(encoder.sizes) == 20
    with services.read() as session:
        assert session.query(StagedChunkRow).count() == 0


def test_the_parts_go_with_the_text(services: Services) -> None:
    first = submit(services, "long.txt", "one").document.id
    work(services, Desk())
    assert n_further_parts(services) == 2
    submit(services, "long.txt", "two")  # the same text in another file
    work(services, Desk())
    assert n_further_parts(services) == 2, "the revision before keeps none"
    with services.read() as session:
        assert list(revisions.text_parts(session, first, 1)) == []
        assert revisions.n_text_parts(session, first, 1) == 0
    with services.write() as session:
        removal.delete(session, first)
    assert n_further_parts(services) == 0


@pytest.mark.parametrize("chunks_a_transaction", [10, 1000])
def test_a_kept_text_is_cut_for_another_chunker(
    services: Services, monkeypatch: pytest.MonkeyPatch, chunks_a_transaction: int
) -> None:
    monkeypatch.setattr(preparing, "CHUNKS_A_TRANSACTION", chunks_a_transaction)
    document_id = submit(services, "long.txt", "one").document.id
    work(services, Desk())
    spec = ChunkerSpec(max_tokens=60, overlap_tokens=0, min_tokens=5)
    chunk_missing(services, [document_id], Chunker(spec, WordEncoder().count_tokens))
    with services.read() as session:
        made = chunks.of_document(session, document_id, chunker=spec.fingerprint)
    assert made
    assert all(LONG[chunk.start : chunk.end] == chunk.text for chunk in made)


@pytest.mark.parametrize("stage", ["cut", "encode", "save"])
def test_a_job_that_is_stopped_on_the_way_holds_up_no_other(
    services: Services, stage: str, monkeypatch: pytest.MonkeyPatch, encoder: SmallMemory
) -> None:
    monkeypatch.setattr(ingestion, "SAY_SECONDS", 0.0)
    monkeypatch.setattr(ingestion, "TEXTS_A_SAVE", 10)
    monkeypatch.setattr(preparing, "CHUNKS_A_TRANSACTION", 10)
    document_id = submit(services, "long.txt", "one").document.id
    submit(services, "tea.md", PAGES["tea.md"])
    work(services, Desk(stop=(stage, "long.txt")))
    assert sources(services, "green tea") == ["tea.md"]
    with services.read() as session:
        assert chunks.of_document(session, document_id) == []
        assert documents.get(session, document_id).status == "processing"
        assert session.query(StagedChunkRow).count() == 0
    assert stage == "save" or sum(encoder.sizes) < 30


@pytest.mark.parametrize("moment", [20, 40])
def test_a_document_that_is_deleted_while_it_is_saved_leaves_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    monkeypatch.setattr(preparing, "CHUNKS_A_TRANSACTION", 10)
    document_id = submit(services, "long.txt", "one").document.id

    @dataclass
    class Deleting(Desk):
        def progress(
            self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None
        ) -> None:
            if (note, done) == ("save", moment):
                with services.write() as session:
                    removal.delete(session, document_id)

    work(services, Deleting())
    assert statuses(services) == {"long.txt": "succeeded"}
    with services.read() as session:
        assert chunks.of_document(session, document_id) == []
        assert session.query(StagedChunkRow).count() == 0
    assert n_further_parts(services) == 0


def test_what_a_killed_worker_has_staged_is_of_no_account(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "CHUNKS_A_TRANSACTION", 10)
    document_id = submit(services, "long.txt", "one").document.id

    @dataclass
    class Killed(Desk):
        def progress(
            self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None
        ) -> None:
            if (note, done) == ("save", 30):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(services, Killed())
    with services.read() as session:
        assert session.query(StagedChunkRow).count() == 30
        assert chunks.of_document(session, document_id) == []
    with services.write() as session:
        queue.release_worker(session, WORKER)
    work(services, Desk())
    with services.read() as session:
        made = chunks.of_document(session, document_id)
        assert [chunk.ordinal for chunk in made] == list(range(documents.get(session, document_id).n_chunks))
        assert session.query(StagedChunkRow).count() == 0


def test_a_document_that_does_not_fit_fails_alone_and_says_what_to_raise(services: Services) -> None:
    for source, text in {**PAGES, "big.md": f"# Big\n\nThis takes {TOO_MUCH} there is.\n"}.items():
        submit(services, source, text)
    board = Desk()
    work(services, board)
    assert board.failed.keys() == {"big.md"}
    assert "FOOTNOTE_WORKER_MEMORY_BYTES" in board.failed["big.md"]
    assert statuses(services) == {"big.md": "failed", **dict.fromkeys(PAGES, "succeeded")}
    assert sources(services, "green tea")[0] == "tea.md"


def test_another_error_is_none_of_memory(services: Services) -> None:
    class Broken(Loaders):
        def load(self, path: Path, *, filename: str) -> LoadedText:
            raise RuntimeError("broken")

    submit(services, "tea.md", PAGES["tea.md"])
    with services.write() as session:
        batch = queue.claim(session, WORKER, [intake.INGEST], limit=100)
    with pytest.raises(RuntimeError, match="broken"):
        ingestion.ingest(services, cast(LoaderPool, Broken()), Desk(), batch)
