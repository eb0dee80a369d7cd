"""Whether what is left is what the model says: documents, chunks, searches, files, index versions, jobs.

Every function gives the violations as sentences; none is what is hoped for. To be called when all is quiet.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from sqlalchemy import func, select

from app.backup import links
from app.db import collections, documents, jobs, revisions, versions
from app.db.errors import DatabaseError
from app.db.tables import AttributeRow, ChunkRow, DocumentRow, JobRow, RevisionRow, TextPartRow
from app.documents import cancelling, intake
from app.errors import FootnoteError
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.settings import DatabaseSettings, Settings, WorkerSettings
from app.upkeep import switching
from app.versions import abandoned, building, retention, verifying
from app.worker import Worker
from indexing.chunking import ChunkerSpec
from indexing.encoding.factory import EncoderSpec
from tests.faults.harness.model import Key, Model, State
from tests.faults.harness.zygote import load_words

MODES = ("bm25", "dense", "hybrid", "rrf")
N_MARKERS = 40
"""Of markers whose text is gone, so many are searched for."""
FINAL = ("succeeded", "failed", "cancelled")


def n_live_jobs(services: Services) -> int:
    with services.read() as session:
        counts = jobs.counts(session)
    return sum(n for (_, status), n in counts.items() if status not in FINAL)


def n_lagging(services: Services) -> int:
    with services.read() as session:
        return len(versions.lagging(session))


def active_version(services: Services, collection: str = "default") -> str:
    """The id of the version that is served."""
    with services.read() as session:
        row = versions.active(session, collections.id_of(collection))
    assert row is not None
    return row.id


def everything(services: Services, model: Model, chance: random.Random) -> list[str]:
    """Every check but the comparison with an undisturbed index."""
    found = [*_documents(services, model), *_jobs(services), *_rows(services)]
    found += [*_searches(services, model, chance), *_versions(services), *_files(services)]
    return found


def _documents(services: Services, model: Model) -> Iterator[str]:
    """Each document is there once, with the content, title and metadata that were acknowledged."""
    with services.read() as session:
        owners = {row.id: row.name for row in collections.list_all(session)}
        rows = session.scalars(select(DocumentRow)).all()
        newest: dict[int, RevisionRow] = {}
        for row in rows:
            revision = revisions.newest(session, row.id)
            if revision is not None:
                newest[row.id] = revision
        texts = {row.id: _text_of(session, row) for row in rows if row.revision}
    by_hash = _contents(model)
    seen: dict[Key, set[State]] = {}
    for row in rows:
        key = Key(owners[row.collection_id], row.source)
        name = f"{key} (revision {row.revision}, {row.status})"
        if key in seen:
            yield f"{key} is there twice"
        seen[key] = {
            state
            for state in by_hash.get(row.content_hash, ())
            if state.shown_title == row.title and dict(state.metadata) == row.meta
        }
        if not seen[key]:
            told = by_hash.get(row.content_hash)
            known = "an unknown text" if told is None else next(iter(told)).content.marker
            yield f"{name} has {known}, title {row.title!r}, metadata {row.meta}"
            seen.pop(key)
            continue
        content = next(iter(seen[key])).content
        last = newest.get(row.id)
        if content.is_loadable:
            if row.status != "ready":
                yield f"{name} is not ready: {row.error_code} {row.error_detail}"
            elif last is None or last.number != row.revision or last.content_hash != row.content_hash:
                yield f"{name} does not serve its newest revision"
            elif content.marker not in texts[row.id]:
                yield f"{name} serves a text without {content.marker}"
        elif row.status != "failed" or row.error_code != "empty_file":
            yield f"{name} should have failed: {row.error_code}"
    yield from model.observe(seen)


def _contents(model: Model) -> dict[str, set[State]]:
    """The states that are allowed for some source, by the hash of their text."""
    found: dict[str, set[State]] = defaultdict(set)
    for outcomes in model.allowed.values():
        for state in outcomes:
            if state is not None:
                found[sha256(state.content.text.encode()).hexdigest()].add(state)
    return found


def _text_of(session: object, row: DocumentRow) -> str:
    revision = revisions.get(session, row.id, row.revision)  # type: ignore[arg-type]
    return "" if revision is None or revision.text is None else revision.text


def _jobs(services: Services) -> Iterator[str]:
    """Every job has ended, and none because of a kill."""
    with services.read() as session:
        rows = session.scalars(select(JobRow)).all()
    for row in rows:
        if row.status not in FINAL:
            yield f"job {row.id} ({row.kind}) is {row.status}"
        elif row.status == "failed" and row.error_code not in ("empty_file", *EXPECTED_FAILURES):
            yield f"job {row.id} ({row.kind}) failed: {row.error_code} {row.error_detail}"


EXPECTED_FAILURES = ("collection_not_found", "index_version_not_found", "recall_dropped")
"""What a job may fail with because of what was asked for meanwhile."""


def _rows(services: Services) -> Iterator[str]:
    """No row belongs to what is gone, and counts are right."""
    with services.read() as session:
        for table, column in (
            (ChunkRow, ChunkRow.document_id),
            (RevisionRow, RevisionRow.document_id),
            (AttributeRow, AttributeRow.document_id),
            (TextPartRow, TextPartRow.document_id),
        ):
            n = session.scalar(
                select(func.count()).select_from(table).where(column.not_in(select(DocumentRow.id)))
            )
            if n:
                yield f"{n} rows of {table.__tablename__} belong to no document"
        stale = session.scalar(
            select(func.count())
            .select_from(ChunkRow)
            .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
            .where(ChunkRow.revision != DocumentRow.revision)
        )
        if stale:
            yield f"{stale} chunks are of revisions that are not served"
        for owner in collections.list_all(session):
            served = versions.active(session, owner.id)
            counted = select(ChunkRow.document_id, func.count()).group_by(ChunkRow.document_id)
            if served is not None:
                counted = counted.where(ChunkRow.chunker == served.chunker_fingerprint)
            n_chunks = dict(map(tuple, session.execute(counted)))
            for row in session.scalars(select(DocumentRow).where(DocumentRow.collection_id == owner.id)):
                if row.n_chunks != n_chunks.get(row.id, 0):
                    yield f"{row.source} says {row.n_chunks} chunks and has {n_chunks.get(row.id, 0)}"
                if row.status == "ready" and not row.n_chunks:
                    yield f"{row.source} is ready without a chunk"


def _searches(services: Services, model: Model, chance: random.Random) -> Iterator[str]:
    """What is there is found by its marker, and by no other way anything else; what is gone is not."""
    current = {
        state.content.marker: key
        for key, outcomes in model.allowed.items()
        for state in outcomes
        if state is not None and state.content.is_loadable
    }
    gone = sorted(model.markers.keys() - current.keys())
    chance.shuffle(gone)
    for marker in [*sorted(current), *gone[:N_MARKERS]]:
        key = model.markers[marker]
        for mode in ("bm25", "dense"):
            try:
                result = search(services, _all_of(marker, key, mode))
            except Exception as error:
                if marker in current:
                    yield f"a search for {marker} fails: {error!r}"
                continue
            holding = [hit for hit in result.passages if marker in hit.chunk.text]
            owners = {int(hit.chunk.document_id) for hit in holding}
            if marker not in current and holding:
                yield f"{marker} of {key} is gone, and {mode} finds it in {owners}"
            elif marker in current and owners != {documents.id_of(*key)}:
                yield f"{marker} of {key} is there, and {mode} finds it in {owners or 'nothing'}"


def _all_of(marker: str, key: Key, mode: str) -> SearchRequest:
    """A search that gives every chunk that a retriever can find."""
    return SearchRequest(query=marker, collection=key.collection, mode=mode, top_k=1000)  # type: ignore[arg-type]


def _versions(services: Services) -> Iterator[str]:
    """`verify` finds nothing in any ready version, and nothing lies about but what sweeping takes."""
    # What was encoded for a text that was overtaken is collected by the hour; here at once.
    retention.forget_orphans(services, 0.0)
    with services.read() as session:
        rows = versions.list_all(session)
    for row in rows:
        if row.status == "ready":
            report = verifying.verify(services, row.id, files=True)
            yield from (f"version {row.id}: {problem}" for problem in report.problems)
        elif row.status == "failed" and row.error and not row.error.startswith(EXPECTED_ERRORS):
            yield f"version {row.id} failed: {row.error}"
    named = {row.id for row in rows}
    for path in abandoned.unnamed(services):
        if not abandoned.remove_directory(path):
            yield f"{path.name} is held by someone"
    for path in services.settings.indexes_dir.iterdir():
        version = path.name.removeprefix(".").partition(".")[0]
        if version not in named and not path.name.endswith(".building"):
            yield f"{path} belongs to no version"


EXPECTED_ERRORS = (abandoned.ERROR,)


def _files(services: Services) -> Iterator[str]:
    """The store has the files that revisions name, and no others but what sweeping takes."""
    services.store.sweep(0.0)
    links.sweep(services.store, 0.0)
    intake.sweep_files(services)
    with services.read() as session:
        named = set(revisions.content_hashes(session))
    folder = services.store.folder
    kept = {path.name for path in folder.glob("??/*")}
    for name in sorted(named - kept):
        yield f"the file {name} is not in the store"
    for name in sorted(kept - named):
        yield f"the file {name} in the store belongs to no document"
    others = {path.name for path in folder.iterdir() if len(path.name) != 2} - {".lock", "incoming", "backup"}
    others |= {str(path) for path in [*(folder / "incoming").glob("*"), *(folder / "backup").glob("*")]}
    for name in sorted(others):
        yield f"{name} lies about in the store"


def against_undisturbed(services: Services, model: Model, home: Path) -> Iterator[str]:
    """Hits and scores beside those of an index made from the same documents, where nothing was killed."""
    present = {
        key: state
        for key, outcomes in model.allowed.items()
        for state in outcomes
        if state is not None and state.content.is_loadable
    }
    with services.read() as session:
        served = {
            row.name: version
            for row in collections.list_all(session)
            if (version := versions.active(session, row.id)) is not None
        }
    with open_services(settings_for(home, ""), load=load_words) as calm:
        _send(calm, present)
        for name, version in served.items():
            if not any(key.collection == name for key in present):
                continue
            row = building.build(
                calm,
                collections.id_of(name),
                encoder_spec=EncoderSpec(**version.encoder_spec),
                chunker_spec=ChunkerSpec(**version.chunker_spec),
            )
            switching.activate(calm, row.id)
            queries = [state.content.marker for key, state in present.items() if key.collection == name]
            for query in [*sorted(queries)[:10], "river stone", "the word is copper", "whistle night garden"]:
                for mode in MODES:
                    given = SearchRequest(query=query, collection=name, mode=mode, top_k=20)  # type: ignore[arg-type]
                    here, there = _hits(services, given), _hits(calm, given)
                    if here != there:
                        yield f"{mode} {query!r} in {name}: {_differing(here, there)}"


def _send(services: Services, present: Mapping[Key, State]) -> None:
    with services.write() as session:
        for name in {key.collection for key in present} - {"default"}:
            collections.create(session, name)
    for key, state in present.items():
        intake.submit(
            services,
            intake.Submission(
                filename=key.source,
                collection=key.collection,
                source=key.source,
                title=state.title,
                metadata=dict(state.metadata) or None,
            ),
            BytesIO(state.content.text.encode()),
        )
    Worker(services, name="calm").drain()


def _hits(services: Services, request: SearchRequest) -> list[tuple[int, float]]:
    return [(int(hit.chunk.id), round(hit.score, 5)) for hit in search(services, request).passages]


def _differing(here: Sequence[object], there: Sequence[object]) -> str:
    for number, (one, other) in enumerate(zip(here, there, strict=False)):
        if one != other:
            return f"hit {number + 1} is {one}, undisturbed {other}"
    return f"{len(here)} hits, undisturbed {len(there)}"


def settings_for(home: Path, url: str) -> Settings:
    """Settings of the harness's own services."""
    worker = WorkerSettings(loaders=2, poll_seconds=0.05)
    return Settings(home=home, database=DatabaseSettings(url=url), worker=worker)


def retried(services: Services) -> int:
    """Puts the jobs that were cancelled back in the queue, so that every document ends ready; how many."""
    with services.read() as session:
        failed = session.scalars(select(DocumentRow.id).where(DocumentRow.error_code == "cancelled")).all()
        found = [
            next(iter(session.scalars(
                select(JobRow.id).where(JobRow.document_id == document_id, JobRow.kind == "ingest")
                .order_by(JobRow.created_at.desc()).limit(1)
            )), None)
            for document_id in failed
        ]  # fmt: skip
    n_retried = 0
    for job_id in found:
        try:
            with services.write() as session:
                if job_id is not None:
                    cancelling.retry(session, job_id)
                    n_retried += 1
        except (FootnoteError, DatabaseError):
            continue
    return n_retried


def restored(home: Path, model: Model) -> list[str]:
    """What a restored folder has that was not allowed when the backup was written."""
    with open_services(settings_for(home, ""), load=load_words) as services:
        Worker(services, name="restored").drain()
        if retried(services):
            Worker(services, name="restored").drain()
        return everything(services, model, random.Random(0))
