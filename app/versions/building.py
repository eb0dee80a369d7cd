"""Index versions made: the first of a collection, those built beside the one that is served."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import uuid4

from app.db import collections, documents, inventory, loaded_texts, versions
from app.db.tables import IndexVersionRow
from app.versions import abandoned, rotations, sparse, verifying
from app.versions.following import Recipe, add_documents, commit_pending, recipe_of
from app.versions.preparing import chunk_missing, encode_texts
from indexing.chunking import ChunkerSpec
from indexing.commit import FLUSH_ROWS
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec
from indexing.errors import IndexDamaged, IndexVersionError
from indexing.files import checkpoint
from indexing.manifest import VersionSpec, load_manifest
from indexing.snapshot import Snapshot
from indexing.token_codec import codec_for
from indexing.types import Scalar
from indexing.version import VersionWriter, create_version

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

Say = Callable[[str, int, int], None]
"""Called with (stage, done, total); it may raise BuildStopped or BuildCancelled."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """For work of which nobody asks how far it is."""


CHUNKS_A_PART = FLUSH_ROWS
"""A build commits so many chunks at a time: what a kill costs of the writing. They fill a segment, which is
then not merged any more."""
DOCUMENTS_CUT = 50
DOCUMENTS_ADDED = 4000
TEXTS_ENCODED = 256


class BuildStopped(Exception):
    """The build is to stop for now: what it has made stays, and the next one like it goes on from there."""


class BuildCancelled(Exception):
    """The build is to stop for good: what it has made goes, but for chunks and vectors."""


def ensure_active(services: Services, collection_id: int) -> IndexVersionRow:
    """The version that is served; where there is none yet, an empty one from the present settings."""
    with services.read() as session:
        row = versions.active(session, collection_id)
    if row is not None:
        return row
    keep_tokens = services.settings.encoder.keep_tokens
    with _new(services, collection_id, services.encoder_spec(), services.chunker_spec(), keep_tokens) as row:
        with services.write() as session:
            # Another worker may have been first; its version stays and ours is dropped.
            active = versions.active(session, collection_id)
            if active is None:
                versions.set_status(session, row.id, "ready")
                return versions.activate(session, row.id)
            versions.delete(session, row.id)
        shutil.rmtree(services.settings.indexes_dir / row.id, ignore_errors=True)
        return active


def build(
    services: Services,
    collection_id: int,
    *,
    encoder_spec: EncoderSpec | None = None,
    chunker_spec: ChunkerSpec | None = None,
    keep_tokens: bool | None = None,
    progress: Say | None = None,
) -> IndexVersionRow:
    """A new version beside the one that is served, holding every document; state `ready` once it is verified.

    A build with the same encoder and chunker that was interrupted is gone on with: chunks and vectors are
    kept in the database as they are made, and the index in parts. Raises IndexDamaged when the finished
    version does not pass its own check.
    """
    say = progress or silent
    wanted = (encoder_spec or services.encoder_spec(), chunker_spec or services.chunker_spec())
    if keep_tokens is None:
        keep_tokens = services.settings.encoder.keep_tokens
    with ExitStack() as stack:
        row = stack.enter_context(_resumed(services, collection_id, *wanted, keep_tokens))
        # Only now: the one that is gone on with is not swept away.
        abandoned.sweep(services, collection_id)
        if row is None:
            fitted = rotations.fitted(services, collection_id, wanted[0])
            row = stack.enter_context(_new(services, collection_id, fitted, wanted[1], keep_tokens))
        try:
            _fill(services, row, say)
            checkpoint("version-filled")
            say("verify", 0, 1)
            if found := verifying.index_problems(services, row):
                raise IndexDamaged("; ".join(f"{problem.path}: {problem.detail}" for problem in found[:5]))
            say("verify", 1, 1)
            checkpoint("version-verified")
        except (BuildStopped, KeyboardInterrupt):
            logger.info("build interrupted", extra={"action": "build_interrupted", "version": row.id})
            raise
        except BuildCancelled:
            _remove(services, row, None)
            raise
        except Exception as error:
            _remove(services, row, f"{type(error).__name__}: {error}")
            raise
        with services.write() as session:
            versions.set_status(session, row.id, "ready")
            row = versions.get(session, row.id)
        checkpoint("version-ready")
        return row


def rebuild(services: Services, row: IndexVersionRow, progress: Say | None = None) -> IndexVersionRow:
    """A version made anew from the database, beside it, with the same encoder and chunker."""
    return build(
        services,
        row.collection_id,
        encoder_spec=EncoderSpec(**row.encoder_spec),
        chunker_spec=ChunkerSpec(**row.chunker_spec),
        progress=progress,
    )


@contextmanager
def _new(
    services: Services,
    collection_id: int,
    encoder_spec: EncoderSpec,
    chunker_spec: ChunkerSpec,
    keep_tokens: bool,
) -> Iterator[IndexVersionRow]:
    """A new, empty version in state `building`, under its lock for the block: directory first, then row."""
    encoder = services.encoders.get(encoder_spec)
    version_id = uuid4().hex
    with abandoned.building_lock(services.settings.indexes_dir, version_id):
        create_version(
            services.settings.indexes_dir / version_id,
            VersionSpec(
                version=version_id,
                encoder_name=encoder.name,
                encoder_fingerprint=encoder.fingerprint,
                dim=encoder.dim,
                chunker_fingerprint=chunker_spec.fingerprint,
                settings=_token_settings(keep_tokens, encoder) | sparse.version_settings(services),
            ),
        )
        checkpoint("version-created")
        with services.write() as session:
            # Who removes the chunks of a chunker that no version uses holds the same lock.
            collections.lock(session, collection_id)
            row = versions.create(
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
        checkpoint("version-recorded")
        yield row


@contextmanager
def _resumed(
    services: Services,
    collection_id: int,
    encoder_spec: EncoderSpec,
    chunker_spec: ChunkerSpec,
    keep_tokens: bool,
) -> Iterator[IndexVersionRow | None]:
    """An unfinished version of this kind that no one works on, under its lock for the block; else None."""
    with services.read() as session:
        unfinished = versions.list_all(session, collection_id=collection_id, status="building")
    with ExitStack() as stack:
        for row in unfinished:
            if row.chunker_fingerprint != chunker_spec.fingerprint:
                continue
            if not rotations.made_for(row, encoder_spec):
                continue
            encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
            if row.encoder_fingerprint != encoder.fingerprint:
                continue
            columns = _token_settings(keep_tokens, encoder) | sparse.version_settings(services)
            if not _taken_over(services, row, columns, stack):
                continue
            logger.info("build resumed", extra={"action": "build_resumed", "version": row.id})
            yield row
            return
        yield None


def _taken_over(
    services: Services, row: IndexVersionRow, columns: Mapping[str, Scalar], stack: ExitStack
) -> bool:
    """Whether the version's lock is ours, until the stack is closed, and it can be gone on with: it must be
    readable, and keep token vectors and sparse vectors as a new one would."""
    folder = services.settings.indexes_dir
    with ExitStack() as lock:
        try:
            lock.enter_context(abandoned.building_lock(folder, row.id, timeout_seconds=0))
            kept = load_manifest(folder / row.id).spec.settings
        except (TimeoutError, IndexVersionError):
            return False  # what cannot be read is swept away in time
        if kept != columns:
            return False
        # Looked at under the lock: whoever had it may have come to the end.
        with services.read() as session:
            unfinished = versions.list_all(session, collection_id=row.collection_id, status="building")
        if row.id not in {other.id for other in unfinished}:
            return False
        stack.enter_context(lock.pop_all())
    return True


def _token_settings(keep_tokens: bool, encoder: Encoder) -> dict[str, Scalar]:
    """What the manifest of a new version says of its token vectors: nothing where none are kept."""
    if not keep_tokens:
        return {}
    codec = codec_for(encoder.name, encoder.dim)
    return {"token_codec": codec.name, "token_bytes": codec.width}


def _fill(services: Services, row: IndexVersionRow, say: Say) -> None:
    recipe = recipe_of(services, row)
    with services.read() as session:
        change = collections.get(session, row.collection_id).change_number
        members = documents.ids_of_collection(session, row.collection_id)
        uncut = loaded_texts.without_chunks(session, members, recipe.chunker.spec.fingerprint)
    say("chunk", len(members) - len(uncut), len(members))
    for start in range(0, len(uncut), DOCUMENTS_CUT):
        batch = uncut[start : start + DOCUMENTS_CUT]
        chunk_missing(services, batch, recipe.chunker)
        say("chunk", len(members) - len(uncut) + start + len(batch), len(members))
    encode_missing(services, row, recipe, say)
    if recipe.sparse is not None:
        sparse.encode_chunks(services, row, recipe.sparse, say)
    _write_index(services, row, recipe, members, change, say)
    commit_pending(services, row.id)


def encode_missing(services: Services, row: IndexVersionRow, recipe: Recipe, say: Say) -> None:
    """Encodes the chunks of a version that lack a vector, or token vectors where it keeps them, in batches
    that are saved one by one."""
    of_recipe = (row.collection_id, recipe.chunker.spec.fingerprint, recipe.encoder.fingerprint)
    with_tokens = recipe.with_tokens
    with services.read() as session:
        if inventory.has_every_vector(session, recipe.encoder.fingerprint, with_tokens=with_tokens):
            say("encode", 0, 0)
            return
    total, done, after = 0, 0, -1
    while True:
        with services.read() as session:
            missing = inventory.without_vector(
                session, *of_recipe, after=after, limit=TEXTS_ENCODED, with_tokens=with_tokens
            )
            if missing and not total:
                # Counting looks at every chunk, as the statement before does: only where there is need.
                total, _ = inventory.chunk_signature(session, *of_recipe[:2])
                done = total - inventory.n_without_vector(session, *of_recipe, with_tokens=with_tokens)
        say("encode", min(done, total), total)
        if not missing:
            return
        texts = {item.text_hash: item.text for item in missing}
        encode_texts(services, recipe.encoder, texts, with_tokens=with_tokens)
        after = missing[-1].chunk_id
        done += len(missing)


def _write_index(
    services: Services, row: IndexVersionRow, recipe: Recipe, members: Sequence[int], change: int, say: Say
) -> None:
    """Writes the documents that the version lacks, in parts that are committed one by one.

    The first part says up to which change the list of members is right; what changed later, also of what is
    in the version already, follows by the log.
    """
    directory = services.settings.indexes_dir / row.id
    with VersionWriter(directory) as writer:
        if writer.manifest.commit:
            change = writer.manifest.change
        else:
            with services.write() as session:
                # From now on the changes that follow are kept for this version.
                versions.set_counts(session, row.id, n_documents=0, n_chunks=0, change_number=change)
        with Snapshot.open(directory) as snapshot:
            present = set(snapshot.documents().tolist())
        left = [document_id for document_id in members if document_id not in present]
        done = len(members) - len(left)
        say("index", done, len(members))
        # Without a document there is a part too, where there were changes: it says up to which that is so.
        while left or writer.manifest.change < change:
            n_chunks, taken = 0, 0
            with writer.commit(change=change) as commit:
                while taken < len(left) and n_chunks < CHUNKS_A_PART:
                    batch = left[taken : taken + DOCUMENTS_ADDED]
                    n_chunks += add_documents(services, commit, recipe, batch)
                    taken += len(batch)
                    say("index", done + taken, len(members))
            done, left = done + taken, left[taken:]


def _remove(services: Services, row: IndexVersionRow, error: str | None) -> None:
    """Removes what a build has written; with an error it stays on record as failed."""
    with services.write() as session:
        if error is None:
            versions.delete(session, row.id)
        else:
            versions.set_status(session, row.id, "failed", error=error)
    shutil.rmtree(services.settings.indexes_dir / row.id, ignore_errors=True)
