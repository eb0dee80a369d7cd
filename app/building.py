"""Index versions: made, extended by what changed, built anew, verified, switched.

A version follows the collection's changes. To apply them, everything of each touched document is taken out
and its present chunks are put in, so that applying a change twice, or late, gives the same index. The
manifest says up to which change number that was done.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import numpy as np

from app import abandoned
from app.db import chunks, collections, documents, versions
from app.db.tables import IndexVersionRow
from app.errors import Conflict
from app.preparing import chunk_missing, encode_texts, vectors_of
from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder, Progress
from indexing.encoding.factory import EncoderSpec
from indexing.errors import IndexDamaged
from indexing.manifest import VersionSpec
from indexing.types import Ids
from indexing.verification import Problem, verify_version
from indexing.version import Commit, VersionWriter, create_version

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHANGES_A_COMMIT = 2000
CHUNKS_A_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a version turns text into entries."""

    encoder: Encoder
    chunker: Chunker


def recipe_of(services: Services, row: IndexVersionRow) -> Recipe:
    encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
    return Recipe(encoder, Chunker(ChunkerSpec(**row.chunker_spec), encoder.count_tokens))


def ensure_active(services: Services, collection_id: int) -> IndexVersionRow:
    """The version that is served; where there is none yet, an empty one from the present settings."""
    with services.read() as session:
        row = versions.active(session, collection_id)
    if row is not None:
        return row
    row = create(services, collection_id, services.encoder_spec(), services.chunker_spec())
    with services.write() as session:
        # Another worker may have been first; its version stays and ours is dropped.
        active = versions.active(session, collection_id)
        if active is None:
            versions.set_status(session, row.id, "ready")
            return versions.activate(session, row.id)
        versions.delete(session, row.id)
    shutil.rmtree(services.settings.indexes_dir / row.id, ignore_errors=True)
    return active


def create(
    services: Services, collection_id: int, encoder_spec: EncoderSpec, chunker_spec: ChunkerSpec
) -> IndexVersionRow:
    """A new, empty version in state `building`: first its directory, then its row."""
    encoder = services.encoders.get(encoder_spec)
    version_id = uuid4().hex
    create_version(
        services.settings.indexes_dir / version_id,
        VersionSpec(
            version=version_id,
            encoder_name=encoder.name,
            encoder_fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            chunker_fingerprint=chunker_spec.fingerprint,
        ),
    )
    with services.write() as session:
        return versions.create(
            session,
            version_id,
            collection_id=collection_id,
            encoder_name=encoder.name,
            encoder_fingerprint=encoder.fingerprint,
            encoder_spec=asdict(encoder_spec),
            chunker_fingerprint=chunker_spec.fingerprint,
            chunker_spec=asdict(chunker_spec),
            dim=encoder.dim,
            directory=version_id,
        )


def commit_pending(services: Services, version_id: str, progress: Progress | None = None) -> int:
    """Applies every change that the version has not seen; gives the last change number applied.

    One process at a time extends a version; others wait for it here.
    """
    with services.read() as session:
        row = versions.get(session, version_id)
    recipe = recipe_of(services, row)
    with VersionWriter(services.settings.indexes_dir / version_id) as writer:
        while _commit_some(services, row, recipe, writer, progress):
            pass
        manifest = writer.manifest
    with services.write() as session:
        versions.set_counts(
            session,
            version_id,
            n_documents=manifest.n_documents,
            n_chunks=manifest.n_chunks,
            change_number=manifest.change,
        )
    return manifest.change


def _commit_some(
    services: Services, row: IndexVersionRow, recipe: Recipe, writer: VersionWriter, progress: Progress | None
) -> bool:
    """One commit of the next changes; False when there were none."""
    with services.read() as session:
        changes = collections.changes_since(
            session, row.collection_id, writer.manifest.change, limit=CHANGES_A_COMMIT
        )
    if not changes:
        return False
    touched = sorted({change.document_id for change in changes})
    chunk_missing(services, touched, recipe.chunker)
    with writer.commit(change=changes[-1].number) as commit:
        commit.replace_documents(np.asarray(touched, dtype=np.int64))
        _add_documents(services, commit, recipe, touched, progress)
    logger.info(
        "index commit",
        extra={
            "action": "index_commit",
            "version": row.id,
            "change": changes[-1].number,
            "n_documents": len(touched),
        },
    )
    return True


def _add_documents(
    services: Services, commit: Commit, recipe: Recipe, document_ids: Sequence[int], progress: Progress | None
) -> None:
    fingerprint = recipe.encoder.fingerprint
    with services.read() as session:
        rows = chunks.of_documents(session, document_ids, recipe.chunker.spec.fingerprint, fingerprint)
        done = 0
        for batch in batched(rows, CHUNKS_A_BATCH):
            commit.add(
                chunk_ids=np.asarray([row.chunk.id for row in batch], dtype=np.int64),
                document_ids=np.asarray([row.chunk.document_id for row in batch], dtype=np.int64),
                texts=[row.chunk.contextual_text for row in batch],
                vectors=vectors_of(services, recipe.encoder, batch),
            )
            done += len(batch)
            if progress is not None:
                progress(done, done)


def build(
    services: Services,
    collection_id: int,
    *,
    encoder_spec: EncoderSpec | None = None,
    chunker_spec: ChunkerSpec | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> IndexVersionRow:
    """A new version beside the one that is served, holding every document; state `ready` once it is verified.

    What is encoded is kept in the database as it is made, so an interrupted build starts where it stopped.
    What builds that were killed have left of the collection is removed first.
    Raises IndexDamaged when the finished version does not pass its own check.
    """
    abandoned.sweep(services, collection_id)
    say = progress or (lambda _stage, _done, _total: None)
    row = create(
        services,
        collection_id,
        encoder_spec or services.encoder_spec(),
        chunker_spec or services.chunker_spec(),
    )
    with abandoned.building_lock(services.settings.indexes_dir, row.id):
        try:
            _fill(services, row, say)
            say("verify", 0, 1)
            if found := problems(services, row.id):
                raise IndexDamaged("; ".join(f"{problem.path}: {problem.detail}" for problem in found[:5]))
            say("verify", 1, 1)
        except BaseException as error:
            with services.write() as session:
                versions.set_status(session, row.id, "failed", error=f"{type(error).__name__}: {error}")
            shutil.rmtree(services.settings.indexes_dir / row.id, ignore_errors=True)
            raise
        with services.write() as session:
            versions.set_status(session, row.id, "ready")
            return versions.get(session, row.id)


def _fill(services: Services, row: IndexVersionRow, say: Callable[[str, int, int], None]) -> None:
    recipe = recipe_of(services, row)
    with services.read() as session:
        change = collections.get(session, row.collection_id).change_number
        members = documents.ids_of_collection(session, row.collection_id)
    for done, batch in _counted(members, 200):
        chunk_missing(services, batch, recipe.chunker)
        say("chunk", done, len(members))
    _encode_missing(services, row, recipe, say)
    with (
        VersionWriter(services.settings.indexes_dir / row.id) as writer,
        writer.commit(change=change) as commit,
    ):
        for done, batch in _counted(members, 500):
            _add_documents(services, commit, recipe, batch, None)
            say("index", done, len(members))
    commit_pending(services, row.id)


def _encode_missing(
    services: Services, row: IndexVersionRow, recipe: Recipe, say: Callable[[str, int, int], None]
) -> None:
    """Encodes what has no vector yet, in batches that are saved one by one."""
    fingerprint, chunker = recipe.encoder.fingerprint, recipe.chunker.spec.fingerprint
    with services.read() as session:
        total = chunks.count(session, collection_id=row.collection_id, chunker=chunker)
        missing: dict[str, str] = {}
        for entry in chunks.iterate(session, row.collection_id, chunker, fingerprint):
            if entry.vector is None:
                missing[entry.text_hash] = entry.chunk.contextual_text
    done = total - len(missing)
    say("encode", done, total)
    for batch in batched(missing.items(), CHUNKS_A_BATCH):
        encode_texts(services, recipe.encoder, dict(batch))
        done += len(batch)
        say("encode", done, total)


def activate(services: Services, version_id: str) -> IndexVersionRow:
    """Serves a version from the next request on, once it has caught up with later changes."""
    commit_pending(services, version_id)
    with services.write() as session:
        return versions.activate(session, version_id)


def rollback(services: Services, collection_id: int) -> IndexVersionRow:
    """Serves the version that was served before. Raises Conflict where there is none."""
    with services.read() as session:
        row = versions.previous(session, collection_id)
    if row is None:
        raise Conflict("There is no earlier index version to go back to.", code="no_previous_version")
    return activate(services, row.id)


def rebuild(
    services: Services, collection_id: int, progress: Callable[[str, int, int], None] | None = None
) -> IndexVersionRow:
    """The served version made anew from the database with the same encoder and chunker, and served."""
    active = ensure_active(services, collection_id)
    row = build(
        services,
        collection_id,
        encoder_spec=EncoderSpec(**active.encoder_spec),
        chunker_spec=ChunkerSpec(**active.chunker_spec),
        progress=progress,
    )
    return activate(services, row.id)


def problems(services: Services, version_id: str) -> list[Problem]:
    """What is wrong with a version: its files against its manifest, its chunks against the database."""
    with services.read() as session:
        row = versions.get(session, version_id)
    found = verify_version(services.settings.indexes_dir / version_id)
    if found:
        return found  # what cannot be read cannot be compared
    snapshot = services.snapshots.get(version_id)
    with services.read() as session:
        if collections.get(session, row.collection_id).change_number != snapshot.manifest.change:
            return []  # changes are on their way; the database is ahead by right
        expected = chunks.ids_of_collection(session, row.collection_id, row.chunker_fingerprint)
    return _differences(version_id, expected, snapshot.chunk_ids())


def _differences(version_id: str, expected: Ids, indexed: Ids) -> list[Problem]:
    lost, extra = np.setdiff1d(expected, indexed), np.setdiff1d(indexed, expected)
    found = []
    if len(lost):
        found.append(
            Problem(
                kind="ids", path=version_id, detail=f"{len(lost)} chunks of the database are not in the index"
            )
        )
    if len(extra):
        found.append(
            Problem(
                kind="ids",
                path=version_id,
                detail=f"{len(extra)} chunks of the index are not in the database",
            )
        )
    return found


def lagging(services: Services) -> list[str]:
    """The served versions that have changes to apply."""
    with services.read() as session:
        return versions.lagging(session)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _counted(items: Sequence[int], size: int) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        yield start + len(batch), batch
