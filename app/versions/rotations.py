"""Rotations that are fitted on a collection when a version of its index is built.

The axes of a collection's own chunks keep far more in a prefix than any others. They are written into the
encoder's settings of the version, so that they go wherever those go: into a backup, and onto another machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.db import chunks
from app.db.tables import IndexVersionRow
from app.versions.preparing import vectors_of
from indexing.encoding.factory import EncoderSpec
from indexing.encoding.rotation import NONE, PCA, Rotation, is_fitted, principal_axes, to_words

if TYPE_CHECKING:
    from app.services import Services

MIN_CHUNKS = 200
"""A collection of fewer gets the rotation that is fitted on made-up texts."""
MAX_CHUNKS = 2048


def fitted(services: Services, collection_id: int, spec: EncoderSpec) -> EncoderSpec:
    """The encoder with the rotation for this collection in place of "pca"; another is left as it is.

    Vectors that are kept are used, the others are encoded and kept. Raises EncoderError.
    """
    if spec.rotation != PCA:
        return spec
    encoder = services.encoders.get(replace(spec, rotation=NONE, dim=None))
    with services.read() as session:
        entries = chunks.some_of_collection(session, collection_id, encoder.fingerprint, limit=MAX_CHUNKS)
    if len(entries) < MIN_CHUNKS:
        return spec
    axes = principal_axes(vectors_of(services, encoder, entries))
    return replace(spec, rotation=to_words(Rotation(axes[:, : spec.dim])))


def made_for(row: IndexVersionRow, wanted: EncoderSpec) -> bool:
    """Whether a version has the encoder that is wanted, whatever "pca" came to when it was built."""
    kept = EncoderSpec(**row.encoder_spec)
    if wanted.rotation == PCA and is_fitted(kept.rotation):
        kept = replace(kept, rotation=PCA)
    return kept == wanted
