"""Sync: after it the collection is the folder, whatever both were; what it must not touch, it does not."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db import chunks, collections, documents, queue, removal
from app.db import golden as questions
from app.db.golden import Expected
from app.documents import ingestion, intake
from app.errors import Conflict, InvalidRequest
from app.files import filing, sync_plans, syncing
from app.files.folders import Rules
from app.files.sync_plans import DEFAULTS, Options
from app.files.syncing import Report
from app.learning import golden
from app.services import Services
from app.versions import following
from indexing.encoding.fake import WordEncoder
from indexing.loaders import LoaderPool
from tests.unit.app.texts import WORKER, Board, Loaders, collection_id, follow, sources

FORCED = Options(force=True)


def work_here(services: Services, document_ids: Collection[int], say: filing.Say) -> None:
    """A worker without processes of its own."""
    with services.write() as session:
        batch = queue.claim(session, WORKER, [intake.INGEST], limit=1000)
    if batch:
        ingestion.ingest(services, cast(LoaderPool, Loaders()), Board(), batch)
    follow(services)


def run(services: Services, folder: Path, options: Options = DEFAULTS, collection: str = "default") -> Report:
    return syncing.sync(services, collection, folder, options, work=work_here)


def state(services: Services, collection: str = "default") -> dict[str, str]:
    """Content hash by source."""
    with services.read() as session:
        owner = collections.get_by_name(session, collection).id
        rows = [documents.get(session, key) for key in documents.ids_of_collection(session, owner)]
    assert {row.status for row in rows} <= {"ready"}
    return {row.source: row.content_hash for row in rows}


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def backdate(folder: Path) -> None:
    """Makes the files old enough that their times are trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def upload(services: Services, source: str, text: str) -> None:
    submission = intake.Submission(filename="upload.md", source=source)
    intake.submit(services, submission, BytesIO(text.encode()))
    work_here(services, [], lambda *_: None)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "tea.md").write_text("# Tea\n\nWarm the pot.")
    (folder / "beans.md").write_text("# Beans\n\nGrind the beans.")
    (folder / "sub" / "water.md").write_text("# Water\n\nBoil the water.")
    return folder


names = st.sampled_from(["a.md", "b.md", "c.txt", "x/a.md", "x/d.md", "y/z/a.md"])
texts = st.sampled_from(["one", "two", "three two", "four", "the same size", "the same sizf"])
folders = st.dictionaries(names, texts, max_size=6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(folders, min_size=1, max_size=3))
def test_after_a_sync_the_collection_is_the_folder(services: Services, states: list[dict[str, str]]) -> None:
    """And a second sync has nothing to do; documents that came in another way stay."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "docs"
        others = {"elsewhere": "a document", f"{root}/never-a-file.md": "uploaded under a path"}
        for source, text in others.items():
            upload(services, source, text)
        other = {source: sha256(text.encode()).hexdigest() for source, text in others.items()}
        for files in states:
            for path in [*root.rglob("*.md"), *root.rglob("*.txt")]:
                path.unlink()
            for file, text in files.items():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_text(text)
            root.mkdir(exist_ok=True)
            before = state(services)
            report = run(services, root, FORCED)
            assert state(services) == hashes(root) | other
            moved = [name for pair in report.renamed for name in pair]
            assert sorted([*report.added, *report.deleted, *moved]) == sorted(
                set(before) ^ set(state(services))
            )
            assert sync_plans.plan(services, "default", root, DEFAULTS).is_empty
            again = run(services, root)
            assert (again.n_unchanged, again.failed) == (len(files), [])
        run(services, Path(name) / "docs", FORCED)
        with services.write() as session:
            for document_id in documents.ids_of_collection(session, collection_id(services)):
                removal.delete(session, document_id)


def test_a_renamed_file_keeps_what_was_said_of_it_and_is_not_encoded_again(
    services: Services, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(services, docs)
    before = documents.id_of("default", str(docs / "tea.md"))
    intake.patch(services, before, title="All about tea", metadata={"year": 2024})
    work_here(services, [], lambda *_: None)
    golden.add(services, "default", "pot", [Expected(str(docs / "tea.md"), "Warm the pot")])

    def refuse(_self: object, _texts: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(WordEncoder, "encode_documents", refuse)
    (docs / "tea.md").rename(docs / "sub" / "green tea.md")
    report = run(services, docs)
    new = str(docs / "sub" / "green tea.md")
    assert report.renamed == [(str(docs / "tea.md"), new)]
    assert (report.added, report.deleted) == ([], [])
    with services.read() as session:
        moved = documents.get(session, documents.id_of("default", new))
        (kept,) = questions.list_all(session, moved.collection_id)
    assert (moved.title, moved.meta["year"]) == ("All about tea", 2024)
    assert kept.expected[0].source == new
    monkeypatch.undo()
    assert sources(services, "pot", top_k=1) == [new]


def test_a_folder_that_was_emptied_deletes_nothing_unless_told_to(services: Services, docs: Path) -> None:
    run(services, docs)
    before = state(services)
    for path in docs.rglob("*.md"):
        path.unlink()
    for folder, code in ((docs, "too_many_deletions"), (docs / "nowhere", "folder_unreadable")):
        with pytest.raises((Conflict, InvalidRequest)) as refused:
            run(services, folder)
        assert refused.value.code == code
        assert state(services) == before
    assert len(run(services, docs, FORCED).deleted) == 3
    assert state(services) == {}


def test_half_may_go_and_more_may_not(services: Services, docs: Path) -> None:
    (docs / "fourth.md").write_text("fourth")
    run(services, docs)
    (docs / "tea.md").unlink()
    (docs / "beans.md").unlink()
    assert len(run(services, docs).deleted) == 2
    (docs / "fourth.md").unlink()
    with pytest.raises(Conflict):
        run(services, docs, Options(max_delete=0.4))


def test_files_that_all_moved_are_no_loss(services: Services, docs: Path) -> None:
    run(services, docs)
    (docs / "new").mkdir()
    for path in list(docs.glob("*.md")) + list(docs.glob("sub/*.md")):
        path.rename(docs / "new" / path.name)
    assert len(run(services, docs, Options(max_delete=0)).renamed) == 3


def test_moving_goes_on_where_it_was_killed(services: Services, docs: Path) -> None:
    """The new documents are in, the old ones not yet out: these are no loss, and go at once."""
    run(services, docs)
    (docs / "new").mkdir()
    for path in list(docs.glob("*.md")) + list(docs.glob("sub/*.md")):
        path.rename(docs / "new" / path.name)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        syncing.sync(services, "default", docs, work=killed)
    work_here(services, [], lambda *_: None)
    assert len(state(services)) == 6
    assert len(run(services, docs, Options(max_delete=0)).deleted) == 3
    assert state(services) == hashes(docs)


def test_no_delete_leaves_everything(services: Services, docs: Path) -> None:
    run(services, docs)
    (docs / "tea.md").unlink()
    (docs / "beans.md").rename(docs / "coffee.md")
    report = run(services, docs, Options(delete=False))
    assert (report.deleted, len(report.renamed)) == ([], 1)
    assert set(state(services)) == {
        str(docs / name) for name in ("tea.md", "beans.md", "coffee.md", "sub/water.md")
    }
    assert len(run(services, docs).deleted) == 2


def test_what_patterns_leave_out_is_neither_taken_nor_deleted(services: Services, docs: Path) -> None:
    run(services, docs)
    (docs / "tea.md").unlink()
    (docs / "new.md").write_text("new")
    options = Options(rules=Rules(include=("*.pdf", "new.md")), max_delete=0)
    report = run(services, docs, options)
    assert (report.added, report.deleted) == ([str(docs / "new.md")], [])
    assert run(services, docs, Options(rules=Rules(exclude=("tea.md",)))).deleted == []
    assert run(services, docs).deleted == [str(docs / "tea.md")]


def test_a_document_that_was_ingested_before_is_taken_over_with_its_file(
    services: Services, docs: Path
) -> None:
    upload(services, str(docs / "tea.md"), (docs / "tea.md").read_text())
    upload(services, str(docs / "gone.md"), "its file was gone before the first sync")
    report = run(services, docs)
    assert (len(report.added), report.n_unchanged) == (2, 1)
    (docs / "tea.md").unlink()
    assert run(services, docs).deleted == [str(docs / "tea.md")]
    assert str(docs / "gone.md") in state(services)


def test_a_document_changed_from_elsewhere_is_as_the_file_again(services: Services, docs: Path) -> None:
    backdate(docs)
    run(services, docs)
    upload(services, str(docs / "tea.md"), "something else of another length")
    upload(
        services,
        str(docs / "beans.md"),
        "# Beans\n\nGround the pears."[: len((docs / "beans.md").read_text())],
    )
    with services.read() as session:
        water = documents.id_of("default", str(docs / "sub" / "water.md"))
        assert documents.get(session, water)
    intake.delete(services, water)
    report = run(services, docs)
    assert set(report.changed) == {str(docs / "tea.md"), str(docs / "beans.md")}
    assert report.added == [str(docs / "sub" / "water.md")]
    assert state(services) == hashes(docs)


def test_size_and_time_are_trusted_unless_the_bytes_are_asked_for(
    services: Services, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backdate(docs)
    run(services, docs)
    (docs / "tea.md").write_text("# Tea\n\nWarm the cup.")
    backdate(docs)

    def refuse(_path: Path) -> str:
        raise AssertionError("a file was read")

    with monkeypatch.context() as patch:
        patch.setattr(sync_plans, "digest", refuse)
        assert run(services, docs).n_unchanged == 3
    assert run(services, docs, Options(checksum=True)).changed == [str(docs / "tea.md")]
    assert state(services) == hashes(docs)


def test_a_file_changed_twice_within_one_tick_of_the_clock_is_noticed(services: Services, docs: Path) -> None:
    now = time.time()
    os.utime(docs / "tea.md", (now, now))
    run(services, docs)
    (docs / "tea.md").write_text("# Tea\n\nWarm the cup.")
    os.utime(docs / "tea.md", (now, now))
    assert run(services, docs).changed == [str(docs / "tea.md")]


def test_a_plan_says_what_a_sync_does_and_writes_nothing(services: Services, docs: Path) -> None:
    assert len(sync_plans.plan(services, "nowhere", docs, DEFAULTS).add) == 3
    run(services, docs)
    (docs / "tea.md").write_text("changed")
    (docs / "beans.md").rename(docs / "coffee.md")
    (docs / "sub" / "water.md").unlink()
    (docs / "new.md").write_text("new")
    before = state(services)
    made = sync_plans.plan(services, "default", docs, DEFAULTS)
    assert state(services) == before
    report = run(services, docs)
    assert [file.source for file in made.add] == report.added == [str(docs / "new.md")]
    assert [file.source for file in made.change] == report.changed == [str(docs / "tea.md")]
    assert [(one.before.source, one.file.source) for one in made.rename] == report.renamed
    assert [item.source for item in made.delete] == report.deleted == [str(docs / "sub" / "water.md")]


def test_an_estimate_comes_from_past_jobs_where_there_are_some(services: Services, docs: Path) -> None:
    first = sync_plans.estimate(services, sync_plans.plan(services, "default", docs, DEFAULTS))
    n_bytes = sum(path.stat().st_size for path in docs.rglob("*.md"))
    assert (first.n_bytes, first.is_measured) == (n_bytes, False)
    assert first.seconds == n_bytes / sync_plans.DEFAULT_BYTES_PER_SECOND
    run(services, docs)
    for path in list(docs.rglob("*.md")):
        path.with_suffix(".again.md").write_text(path.read_text() + " ")
    second = sync_plans.estimate(services, sync_plans.plan(services, "default", docs, DEFAULTS))
    assert second.is_measured
    assert second.n_chunks == 3
    assert 0 < second.seconds < 60


def test_a_file_that_changes_while_it_is_read_waits_for_the_next_sync(
    services: Services, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = intake.keep_file

    def keep_while_written(owner: Services, stream: object) -> object:
        kept = keep(owner, stream)  # type: ignore[arg-type]
        if str(stream.name).endswith("tea.md"):  # type: ignore[attr-defined]
            with (docs / "tea.md").open("a") as file:
                file.write("more")
        return kept

    monkeypatch.setattr(intake, "keep_file", keep_while_written)
    monkeypatch.setattr(syncing, "PAUSE_SECONDS", 0.01)
    report = run(services, docs)
    assert [(item.source, item.code) for item in report.failed] == [(str(docs / "tea.md"), "file_changing")]
    assert len(report.added) == 2
    monkeypatch.undo()
    assert run(services, docs).added == [str(docs / "tea.md")]


def test_a_file_still_being_written_is_left_for_later_when_asked(services: Services, docs: Path) -> None:
    backdate(docs)
    run(services, docs)
    patient = replace(DEFAULTS, settle_seconds=60)
    (docs / "tea.md").rename(docs / "oolong.md")
    os.utime(docs / "oolong.md")
    (docs / "beans.md").write_text("half of a new")
    report = run(services, docs, patient)
    assert (report.n_unsettled, report.changed, report.added, report.deleted) == (2, [], [], [])
    assert len(run(services, docs).renamed) == 1


def test_a_name_that_cannot_be_a_source_fails_alone(services: Services, docs: Path) -> None:
    deep = docs
    for _ in range(9):
        deep = deep / ("d" * 240)
    os.makedirs(deep)
    (deep / "far.md").write_text("far")
    strange = Path(os.fsdecode(os.fsencode(docs) + b"/caf\xe9.md"))
    strange.write_text("coffee")
    (docs / "caf\\xe9.md").write_text("taken")
    report = run(services, docs)
    assert sorted(item.code for item in report.failed) == ["invalid_text", "name_taken"]
    assert len(report.added) == 4
    strange.unlink()
    (docs / "caf\\xe9.md").unlink()
    assert run(services, docs).deleted == [f"{docs}/caf\\xe9.md"]


def test_a_folder_that_goes_away_meanwhile_deletes_nothing(services: Services, docs: Path) -> None:
    run(services, docs)
    before = state(services)
    (docs / "tea.md").unlink()
    (docs / "new.md").write_text("new")

    def unmounted(*arguments: object) -> None:
        work_here(*arguments)  # type: ignore[arg-type]
        docs.rename(docs.with_name("elsewhere"))

    with pytest.raises(Conflict) as refused:
        syncing.sync(services, "default", docs, work=unmounted)
    assert refused.value.code == "folder_changed"
    assert before.keys() <= state(services).keys()


def test_what_is_no_file_any_more_is_gone(services: Services, docs: Path) -> None:
    """A folder, a pipe, and a link to a folder at the places of files; a folder that is a file now."""
    for name in ("folder", "pipe", "link", "stays"):
        (docs / name).write_text(f"the text of {name}")
    run(services, docs)
    for name in ("folder", "pipe", "link"):
        (docs / name).unlink()
    (docs / "folder").mkdir()
    (docs / "folder" / "inner.md").write_text("another text")
    os.mkfifo(docs / "pipe")
    (docs / "link").symlink_to(docs / "folder")
    shutil.rmtree(docs / "sub")
    (docs / "sub").write_text("a file now")
    report = run(services, docs, FORCED)
    assert len(report.deleted) == 4
    assert state(services) == hashes(docs)
    assert sync_plans.plan(services, "default", docs, DEFAULTS).is_empty


def test_what_lies_in_a_data_folder_by_now_is_left(services: Services, docs: Path) -> None:
    """A scan does not show it any more, so that it is not known to be gone."""
    for name in ("files", "indexes"):
        (docs / name).mkdir()
    (docs / "files" / "mine.md").write_text("my own file")
    run(services, docs)
    (docs / "models").mkdir()
    assert run(services, docs).deleted == []
    assert sync_plans.plan(services, "default", docs, DEFAULTS).is_empty


def test_a_sync_of_an_inner_folder_and_of_the_outer_one_agree(services: Services, docs: Path) -> None:
    assert len(run(services, docs / "sub").added) == 1
    assert len(run(services, docs).added) == 2
    (docs / "sub" / "water.md").unlink()
    assert run(services, docs).deleted == [str(docs / "sub" / "water.md")]
    assert run(services, docs / "sub").deleted == []


def test_what_was_synced_through_a_link_is_not_taken_for_gone(services: Services, docs: Path) -> None:
    (docs / "linked").symlink_to(docs / "sub", target_is_directory=True)
    run(services, docs / "linked")
    report = run(services, docs, Options(max_delete=0))
    assert report.deleted == []
    assert str(docs / "linked" / "water.md") in state(services)


def test_what_cannot_be_looked_at_is_not_gone(
    services: Services, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(services, docs)
    scandir = os.scandir

    def refusing(path: str) -> object:
        """Root may read every folder, so the refusal is made here."""
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = run(services, docs, FORCED)
    assert (report.deleted, [item.code for item in report.failed]) == ([], ["unreadable"])


def test_the_second_of_two_syncs_waits_for_the_first(services: Services, docs: Path) -> None:
    waited, done = threading.Event(), []

    def slow(*arguments: object) -> None:
        second.start()
        assert waited.wait(20)
        work_here(*arguments)  # type: ignore[arg-type]

    def wait_then_sync() -> None:
        done.append(
            syncing.sync(
                services, "default", docs, work=work_here, on_wait=cast(Callable[[], None], waited.set)
            )
        )

    second = threading.Thread(target=wait_then_sync)
    first = syncing.sync(services, "default", docs, work=slow)
    second.join(20)
    assert (len(first.added), done[0].added, done[0].n_unchanged) == (3, [], 3)


def test_a_collection_that_is_not_there_is_made(services: Services, docs: Path) -> None:
    run(services, docs, collection="manuals")
    assert state(services, "manuals") == hashes(docs)
    assert state(services) == {}
    with services.read() as session:
        assert chunks.count(session, collection_id=collection_id(services, "manuals")) == 3


def test_the_index_has_followed_when_a_sync_is_over(services: Services, docs: Path) -> None:
    run(services, docs)
    (docs / "tea.md").unlink()
    assert len(run(services, docs).deleted) == 1
    assert following.lagging(services) == []
