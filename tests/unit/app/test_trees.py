"""A tree is grown, kept up branch by branch, gone on with after a kill, and forgets what was deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app import purging
from app.db import chunks, collections, documents, jobs, loaded_texts, nodes, versions
from app.db import trees as tree_rows
from app.db.tables import IndexVersionRow, JobRow
from app.db.types import utc_now
from app.documents import deleting, intake
from app.errors import Busy
from app.nodes import trees
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.upkeep import switching
from app.upkeep.upkeep import Upkeep
from app.versions import building, verifying
from app.versions import nodes as nodes_of_versions
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for, work

TOPICS = ("river boat harbour", "bread oven flour", "engine piston valve", "violin string bow")
MARKER = "zyzzyvine"


def page(topic: str, number: int, n_sections: int) -> str:
    """A text of so many sections, each a chunk of its own."""
    words = topic.split()
    sections = [
        f"## {words[at % 3]} {number}-{at}\n\n"
        + " ".join(f"The {words[(at + k) % 3]} of part {number} {at} {k} is kept dry." for k in range(9))
        for at in range(n_sections)
    ]
    return f"# {topic} {number}\n\n" + "\n\n".join(sections) + "\n"


def add(services: Services, source: str, text: str) -> None:
    intake.submit(services, intake.Submission(filename=source), BytesIO(text.encode()))


def fill(services: Services) -> None:
    """Two long documents, and short ones on each topic."""
    for number, topic in enumerate(TOPICS[:2]):
        add(services, f"long-{number}.md", page(topic, number, 14))
    for number in range(28):
        add(services, f"short-{number}.md", page(TOPICS[number % 4], number + 10, 1))
    work(services)


@pytest.fixture
def grown(services: Services) -> Services:
    fill(services)
    trees.build(services, COLLECTION)
    return services


COLLECTION = collections.id_of("default")


def kept(services: Services) -> dict[int, Any]:
    with services.read() as session:
        row = versions.active(session, COLLECTION)
        assert row is not None
        of = (COLLECTION, row.chunker_fingerprint)
        owners = documents.ids_of_collection(session, COLLECTION)
        found: dict[int, Any] = {}
        found.update(tree_rows.kept(session, *of, document_ids=owners).items())
        found.update(tree_rows.kept(session, *of).items())
        return found


def versions_row(services: Services, version_id: str) -> IndexVersionRow:
    with services.read() as session:
        return versions.get(session, version_id)


def id_of(source: str) -> int:
    return documents.id_of("default", source)


def test_long_documents_have_trees_and_all_chunks_a_way_up(grown: Services) -> None:
    found = kept(grown)
    owners = {node.document_id for node in found.values()}
    assert owners == {None, id_of("long-0.md"), id_of("long-1.md")}
    with grown.read() as session:
        row = versions.active(session, COLLECTION)
        assert row is not None
        everything = set(chunks.ids_of_collection(session, COLLECTION, row.chunker_fingerprint).tolist())
        roots = nodes.roots(session, COLLECTION, row.chunker_fingerprint, "summary").tolist()
        reached = {leaf for ids in nodes.leaves(session, roots).values() for leaf in ids.tolist()}
    assert reached == everything
    for key, node in found.items():
        below = [found[child] for child in node.nodes]
        assert all(child.level < node.level for child in below)
        assert key == node.id
    status = trees.status(grown, COLLECTION)
    assert status is not None
    assert (status.n_nodes, status.behind) == (len(found), 0)


def test_the_same_documents_give_the_same_tree(grown: Services) -> None:
    before = kept(grown)
    assert trees.remove(grown, COLLECTION) == len(before)
    assert (kept(grown), trees.status(grown, COLLECTION)) == ({}, None)
    trees.build(grown, COLLECTION)
    assert kept(grown) == before
    trees.build(grown, COLLECTION)
    assert kept(grown) == before


@pytest.mark.parametrize("mode", ["tree", "tree_traversal"])
def test_searches_give_chunks_and_keep_filters(grown: Services, mode: Any) -> None:
    result = search(grown, SearchRequest(query="the oven and the flour", mode=mode, top_k=12))
    assert len(result.passages) == 12
    assert all(passage.chunk.text in _text_of(grown, passage.source) for passage in result.passages)
    only = {"source": {"$in": ["long-0.md", "short-3.md"]}}
    filtered = search(grown, SearchRequest(query="the oven", mode=mode, top_k=15, filters=only))
    assert {passage.source for passage in filtered.passages} == {"long-0.md", "short-3.md"}
    assert len(filtered.passages) == 15


def _text_of(services: Services, source: str) -> str:
    with services.read() as session:
        found = loaded_texts.newest_text(session, id_of(source), lock=False)
    assert found is not None
    return str(found.loaded.text)


def test_a_new_document_touches_only_its_branch(grown: Services) -> None:
    before = kept(grown)
    add(grown, "new.md", page("bread oven flour", 99, 1))
    work(grown)
    behind = trees.status(grown, COLLECTION)
    assert behind is not None
    assert behind.behind > 0
    trees.build(grown, COLLECTION)
    after = kept(grown)
    new = after.keys() - before.keys()
    gone = before.keys() - after.keys()
    assert all(before[key].document_id is None for key in gone)
    assert len(gone) <= 3, "one cluster and what rests on it"
    with grown.read() as session:
        leaves = nodes.leaves(session, new)
        row = versions.active(session, COLLECTION)
        assert row is not None
        own = chunks.ids_of_documents(session, [id_of("new.md")], row.chunker_fingerprint)
    assert all(set(own.tolist()) <= set(ids.tolist()) for ids in leaves.values())


def test_a_changed_document_leaves_the_trees_of_others(grown: Services) -> None:
    before = {key for key, node in kept(grown).items() if node.document_id == id_of("long-1.md")}
    changed = page(TOPICS[0], 0, 14).replace("part 0 5", "section 0 5")
    add(grown, "long-0.md", changed)
    work(grown)
    trees.build(grown, COLLECTION)
    after = kept(grown)
    assert before == {key for key, node in after.items() if node.document_id == id_of("long-1.md")}
    of_changed = [node for node in after.values() if node.document_id == id_of("long-0.md")]
    assert of_changed
    assert not any("part 0 5" in node.text for node in after.values())


def test_a_deleted_leaf_leaves_every_summary_the_index_and_the_bytes(grown: Services) -> None:
    text = page("river boat harbour", 77, 1).replace("dry", MARKER).replace("river", MARKER)
    add(grown, "secret.md", text)
    add(grown, "secret-too.md", page(f"{MARKER} boat harbour", 78, 12))
    work(grown)
    trees.build(grown, COLLECTION)
    assert any(MARKER in node.text for node in kept(grown).values())
    for source in ("secret.md", "secret-too.md"):
        receipt = deleting.delete(grown, id_of(source))
        assert receipt.rows["nodes"] > 0
        assert sum(item.n_nodes for item in receipt.indexes) == receipt.rows["nodes"]
    assert not any(MARKER in node.text for node in kept(grown).values())
    assert purging.purge(grown, COLLECTION).pending == ()
    home = grown.settings.home
    assert [p.name for p in home.rglob("*") if p.is_file() and MARKER.encode() in p.read_bytes()] == []
    trees.build(grown, COLLECTION)
    assert not any(MARKER in node.text for node in kept(grown).values())


def test_the_worker_follows_where_a_tree_is(grown: Services) -> None:
    add(grown, "new.md", page("bread oven flour", 99, 1))
    work(grown)
    Upkeep(grown).step(lambda: False)
    work(grown)
    found = trees.status(grown, COLLECTION)
    assert found is not None
    assert found.behind == 0


def test_a_version_that_was_switched_to_meanwhile_gets_the_nodes_that_were_made_since(
    grown: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with grown.read() as session:
        before = versions.served(session)[0]
    beside = building.rebuild(grown, versions_row(grown, before)).id
    add(grown, "new.md", page("bread oven flour", 99, 14))
    work(grown)
    with monkeypatch.context() as patch:
        # The version that is switched to has looked before the nodes were made.
        patch.setattr(nodes_of_versions, "follow", lambda *_: 0)
        switching.activate(grown, beside)
    work(grown)
    assert trees.keep_up(grown) == 1
    work(grown)
    assert trees.keep_up(grown) == 0
    assert verifying.verify(grown, beside).ok


def test_a_job_is_put_off_while_another_has_the_tree(grown: Services) -> None:
    job = trees.enqueue(grown, COLLECTION)
    with trees.locked(grown, COLLECTION):
        with pytest.raises(Busy):
            trees.build(grown, COLLECTION)
        work(grown)
        with grown.read() as session:
            put_off = jobs.get(session, job.id)
    assert (put_off.status, put_off.attempts, put_off.error_code) == ("todo", 0, "tree_busy")
    with grown.write() as session:
        session.execute(update(JobRow).values(run_after=utc_now()))
    work(grown)
    with grown.read() as session:
        assert jobs.get(session, job.id).status == "succeeded"


CHILD = """
import sys
from pathlib import Path
from tests.unit.app.test_trees import build_in
build_in(Path(sys.argv[1]))
"""


def build_in(home: Path) -> None:
    """Grows the tree in a process of its own, which may be killed."""
    with open_services(settings_for(home, ""), load=lambda _spec, _dir: WordEncoder()) as services:
        trees.build(services, COLLECTION)


def test_a_kill_in_the_middle_changes_nothing_of_the_tree(services: Services) -> None:
    fill(services)
    for point in ("tree-document", "tree-layer"):
        environment = {**os.environ, "FOOTNOTE_CRASH_AT": point}
        home = str(services.settings.home)
        killed = subprocess.run([sys.executable, "-c", CHILD, home], env=environment, check=False)
        assert killed.returncode == -9
    trees.build(services, COLLECTION)
    resumed = kept(services)
    trees.remove(services, COLLECTION)
    trees.build(services, COLLECTION)
    assert kept(services) == resumed
