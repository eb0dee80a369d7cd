"""The long-lived objects of one process, built once and passed to what needs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from app import belonging
from app.db import collections, migration
from app.db.engine import create_engine, session_factory
from app.encoders import EncoderPool, LoadEncoder, SparseEncoders
from app.errors import InvalidRequest
from app.generation.base import Generator
from app.generation.factory import extractive_generator, llm_generator
from app.language_model import language_model
from app.outages import DATABASE_UNAVAILABLE, described, outage_of
from app.places import Places
from app.settings import ChunkerSettings, EncoderSettings, Settings
from app.store import FileStore
from app.versions.indexes import Indexes
from app.versions.snapshots import SnapshotCache
from indexing.chunking import ChunkerSpec
from indexing.device_scan import open_device
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.language_model import LanguageModel

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
PATIENCE_SECONDS = 300.0
"""A database that cannot be reached for so long will not be there soon."""
"""A database that cannot be reached is tried again so often."""


@dataclass(eq=False)
class Services:
    """What the API, the worker and the commands share. Models are loaded when they are first used."""

    settings: Settings
    engine: Engine
    store: FileStore
    encoders: EncoderPool
    snapshots: SnapshotCache
    places: Places
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    @cached_property
    def _writing(self) -> sessionmaker[Session]:
        return session_factory(self.engine)

    @cached_property
    def _reading(self) -> sessionmaker[Session]:
        return session_factory(self.engine, read_only=True)

    def write(self) -> AbstractContextManager[Session]:
        """A transaction that writes: committed at the end, rolled back on an error."""
        return self._writing.begin()

    def read(self) -> AbstractContextManager[Session]:
        """A transaction that only reads, from one snapshot of the database."""
        return self._reading.begin()

    @cached_property
    def indexes(self) -> Indexes:
        return Indexes(self.read, self.snapshots, self.encoders, self.sparse_encoders, self.settings.search)

    @cached_property
    def sparse_encoders(self) -> SparseEncoders:
        return SparseEncoders(self.settings.sparse)

    @cached_property
    def extractive(self) -> Generator:
        """The generator that quotes; it uses the encoder of the settings."""
        return extractive_generator(self.settings.answer, self.encoders.get(self.encoder_spec()))

    @cached_property
    def llm(self) -> Generator | None:
        """The generator that asks the language model; None when none is set."""
        if self.settings.llm.base_url is None:
            return None
        return llm_generator(self.settings.llm, self.encoders.get(self.encoder_spec()), self.extractive)

    @cached_property
    def language_model(self) -> LanguageModel | None:
        """What writes queries, judgements and summaries; None when no endpoint is set."""
        return language_model(self.settings.llm)

    def encoder_spec(self) -> EncoderSpec:
        """The encoder of new index versions."""
        return encoder_spec(self.settings.encoder)

    def chunker_spec(self) -> ChunkerSpec:
        """The chunker of new index versions: what is set, the rest as fits the encoder's window."""
        return fitting_chunker(self.settings.chunker, self.encoders.get(self.encoder_spec()).max_tokens)


def encoder_spec(settings: EncoderSettings) -> EncoderSpec:
    """The encoder that is set."""
    return EncoderSpec(**settings.model_dump(exclude={"keep_tokens"}))


def fitting_chunker(settings: ChunkerSettings, window: int) -> ChunkerSpec:
    """The chunker that is set; what is not set fits the encoder's window of so many tokens.

    Raises InvalidRequest (`chunk_too_long`) where the chunks would not fit, so that nothing is cut silently.
    """
    default = ChunkerSpec()
    max_tokens = settings.max_tokens or min(default.max_tokens, window)
    overlap_tokens = settings.overlap_tokens
    if overlap_tokens is None:
        overlap_tokens = min(default.overlap_tokens, max_tokens // 4)
    if max_tokens > window:
        raise InvalidRequest(
            f"Chunks of {max_tokens} tokens do not fit the encoder's window of {window}.",
            code="chunk_too_long",
        )
    try:
        return ChunkerSpec(
            max_tokens=max_tokens,
            overlap_tokens=overlap_tokens,
            min_tokens=min(default.min_tokens, max_tokens // 4),
        )
    except ValueError as error:
        raise InvalidRequest(str(error), code="invalid_chunker") from error


@contextmanager
def open_services(
    settings: Settings, load: LoadEncoder = load_encoder, *, patient: bool = False
) -> Iterator[Services]:
    """Everything a process needs: data folder, database at the present schema, default collection.

    Raises DatabaseError and SQLAlchemyError when the database cannot be used; where `patient`, one that
    cannot be reached is waited for some minutes. Raises Conflict where the data folder is another database's.
    """
    for folder in (settings.home, settings.files_dir, settings.indexes_dir, settings.models_dir):
        folder.mkdir(parents=True, exist_ok=True)
    engine = create_engine(settings.database_url, pool_size=settings.database.pool_size)
    try:
        _upgrade(engine, patient=patient)
        services = Services(
            settings=settings,
            engine=engine,
            store=FileStore(settings.files_dir),
            encoders=EncoderPool(settings.models_dir, load),
            snapshots=SnapshotCache(settings.indexes_dir, open_device(settings.vectors.device)),
            places=Places(settings.server.max_concurrent, settings.server.max_waiting),
        )
        with services.write() as session:
            collections.ensure_default(session)
            belonging.check(settings.home, settings.files_dir, session)
        yield services
    finally:
        engine.dispose()


def _upgrade(engine: Engine, *, patient: bool) -> None:
    end = time.monotonic() + (PATIENCE_SECONDS if patient else 0.0)
    while True:
        try:
            migration.upgrade(engine)
            return
        except DBAPIError as error:
            if outage_of(error) != DATABASE_UNAVAILABLE or time.monotonic() >= end:
                raise
            logger.warning("%s", described(error), extra={"action": "database_awaited"})
        time.sleep(WAIT_SECONDS)
