"""`footnote ingest`, and the documents and jobs that come of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.db import jobs
from app.worker import Worker
from tests.cli.conftest import PAGES, Footnote


def sources(footnote: Footnote, pages: Path) -> dict[str, str]:
    """The documents' status by their path below the folder."""
    listed = footnote.json("documents", "list")["data"]
    return {os.path.relpath(item["source"], pages): item["status"] for item in listed}


def test_a_folder_twice_then_with_a_changed_file(footnote: Footnote, pages: Path) -> None:
    first = footnote.json("ingest", pages)
    assert first == {"ready": 3, "unchanged": 0, "waiting": 0, "failed": [], "n_chunks": 3}
    assert sources(footnote, pages) == dict.fromkeys(PAGES, "ready")
    assert footnote.json("ingest", pages) == {
        "ready": 0,
        "unchanged": 3,
        "waiting": 0,
        "failed": [],
        "n_chunks": 0,
    }
    (pages / "fusion.md").write_text("# Fusion\n\nReciprocal rank fusion adds reciprocal ranks.\n")
    third = footnote("ingest", pages)
    assert "1 ready (1 chunks), 2 unchanged" in third.out
    shown = footnote.json("documents", "show", pages / "fusion.md")
    assert (shown["revision"], shown["status"]) == (2, "ready")
    hits = footnote.json("search", "convex combination", "--mode", "bm25")["hits"]
    assert hits == []


def test_files_are_chosen_by_pattern_and_hidden_ones_left_out(footnote: Footnote, pages: Path) -> None:
    (pages / ".hidden.md").write_text("Hidden.")
    (pages / ".git").mkdir()
    (pages / ".git" / "config.md").write_text("Not a document.")
    assert footnote.json("ingest", pages, "--include", "*.txt", "--no-wait")["waiting"] == 1
    assert (
        footnote.json("ingest", pages, "--exclude", "f*", "--exclude", "*.txt", "--no-wait")["waiting"] == 1
    )
    assert set(sources(footnote, pages)) == {"sub/tea.txt", "leases.md"}
    done = footnote("ingest", pages, "--include", "*.nothing", code=1)
    assert "there is no file" in done.err


def test_a_file_named_outright_may_be_hidden_and_may_have_a_title(footnote: Footnote, pages: Path) -> None:
    (pages / ".hidden.md").write_text("Something hidden.")
    report = footnote.json(
        "ingest", pages / ".hidden.md", "--title", "A title", "--metadata", '{"year": 2024}'
    )
    assert report["ready"] == 1
    shown = footnote.json("documents", "show", pages / ".hidden.md")
    assert (shown["title"], shown["metadata"]["year"]) == ("A title", 2024)
    footnote("ingest", pages, "--title", "For which?", code=2)


def test_a_file_that_fails_is_named_and_the_others_are_ready(footnote: Footnote, pages: Path) -> None:
    (pages / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    report = footnote.json("ingest", pages, code=1)
    assert report["ready"] == 3
    (failure,) = report["failed"]
    assert (failure["source"], failure["code"]) == (str(pages / "broken.pdf"), "corrupt_file")
    assert sources(footnote, pages)["broken.pdf"] == "failed"
    again = footnote("ingest", pages / "broken.pdf", code=1)
    assert str(pages / "broken.pdf") in again.out
    assert "(corrupt_file)" in again.out


def test_a_file_above_the_limit_fails_by_name(
    footnote: Footnote, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTNOTE_SERVER_MAX_UPLOAD_BYTES", "80")
    report = footnote.json("ingest", pages, "--no-wait", code=1)
    codes = {os.path.relpath(item["source"], pages): item["code"] for item in report["failed"]}
    assert codes == {"leases.md": "payload_too_large"}
    assert report["waiting"] == 2


def test_what_was_not_waited_for_is_done_by_a_worker(footnote: Footnote, pages: Path) -> None:
    report = footnote.json("ingest", pages, "--no-wait")
    assert (report["ready"], report["waiting"]) == (0, 3)
    assert "waiting for a worker" in footnote("ingest", pages, "--no-wait").out
    assert [job["status"] for job in footnote.json("jobs", "list")["data"]] == ["todo"] * 3
    footnote("worker", "--once")
    assert [job["status"] for job in footnote.json("jobs", "list")["data"]] == ["succeeded"] * 3
    assert sources(footnote, pages) == dict.fromkeys(PAGES, "ready")


def test_a_job_is_cancelled_and_retried(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages / "leases.md", "--no-wait")
    (job,) = footnote.json("jobs", "list")["data"]
    assert footnote.json("jobs", "show", job["id"]) == job
    assert footnote.json("jobs", "cancel", job["id"])["status"] == "cancelled"
    footnote("worker", "--once")
    assert footnote.json("jobs", "list", "--status", "cancelled")["data"][0]["id"] == job["id"]
    assert footnote.json("jobs", "list", "--status", "todo")["data"] == []
    assert footnote.json("jobs", "retry", job["id"])["status"] == "todo"
    footnote("worker", "--once")
    assert "succeeded" in footnote("jobs", "show", job["id"]).out
    assert "succeeded" in footnote("jobs", "list").out
    assert "(job_not_retryable)" in footnote("jobs", "retry", job["id"], code=1).err
    assert "(job_not_cancellable)" in footnote("jobs", "cancel", job["id"], code=1).err


def test_a_cancelled_file_is_taken_again_by_the_same_command(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages / "leases.md", "--no-wait")
    (job,) = footnote.json("jobs", "list")["data"]
    footnote("jobs", "cancel", job["id"])
    assert footnote.json("ingest", pages / "leases.md")["ready"] == 1


@pytest.mark.timeout(10)
def test_a_job_that_another_cancels_is_not_waited_for(
    footnote: Footnote, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(worker: Worker, *arguments: object, **options: object) -> None:
        with worker.services.write() as session:
            for job in jobs.list_page(session, status="todo").items:
                jobs.cancel(session, job.id)
        drain(worker, *arguments, **options)  # type: ignore[arg-type]

    drain = Worker.drain
    monkeypatch.setattr(Worker, "drain", cancelled)
    report = footnote.json("ingest", pages / "leases.md")
    assert (report["ready"], report["waiting"]) == (0, 1)


def test_documents_are_listed_shown_and_deleted(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages, "--collection", "notes")
    assert footnote.json("documents", "list")["data"] == []
    listed = footnote.json("documents", "list", "--collection", "notes", "--limit", 2)
    assert len(listed["data"]) == 2
    assert listed["next_cursor"]
    assert "more than 2" in footnote("documents", "list", "-c", "notes", "--limit", 2).out
    first = listed["data"][0]
    assert footnote.json("documents", "show", first["id"]) == first
    assert footnote.json("documents", "show", first["source"], "-c", "notes") == first
    assert first["source"] in footnote("documents", "list", "-c", "notes").out
    assert first["source"] in footnote("documents", "show", first["id"]).out
    receipt = footnote.json("documents", "delete", first["id"])
    assert (receipt["id"], receipt["deleted"]) == (first["id"], True)
    assert receipt["removed"] == {"chunks": 1, "revisions": 1, "files": 1}
    assert receipt["receipt"]["pending"] == []
    second = footnote.json("documents", "list", "-c", "notes")["data"][0]
    assert (
        "deleted: 1 documents, 1 chunks"
        in footnote("documents", "delete", second["source"], "-c", "notes").out
    )
    assert len(footnote.json("documents", "list", "-c", "notes")["data"]) == 1
    footnote("worker", "--once")
    assert footnote.json("index", "verify", "-c", "notes")["ok"]
    assert footnote.json("documents", "list", "-c", "notes", "--status", "failed")["data"] == []


def test_progress_is_plain_lines_on_standard_error(footnote: Footnote, pages: Path) -> None:
    done = footnote("ingest", pages)
    assert done.out == "3 ready (3 chunks)\n"
    assert "ingest: 3/3" in done.err
    assert "\r" not in done.err
    assert "\x1b" not in done.err
