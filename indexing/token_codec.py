"""Codecs of token vectors: vectors of length 1 to a fixed number of bytes each, and back.

Product quantization after a learned rotation (Jégou et al. 2011, https://doi.org/10.1109/TPAMI.2010.57; Ge et
al. 2013, https://doi.org/10.1109/TPAMI.2013.240) for the default model, whose parameters are in the package;
for every other encoder a codec that needs no training. docs/decisions/0019 has the measurements.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import shake_256
from importlib.resources import as_file, files
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexing.errors import EncoderError
from indexing.manifest import VersionSpec
from indexing.token_codes import Codes
from indexing.types import Floats

TRAINED = "minilm-pq"
TRAINED_FOR = "sentence-transformers/all-MiniLM-L6-v2"
"""The name of the encoder whose token vectors it was trained on."""
ROTATED = "rotated-2"

# The best four values for a normally distributed number (Max 1960, table I), in standard deviations.
_LEVELS = np.array([-1.510, -0.4528, 0.4528, 1.510], dtype=np.float32)
_BORDERS = np.array([-0.9816, 0.0, 0.9816], dtype=np.float32)
_TOKENS_A_SLICE = 512  # what is compared stays in the cache of a core


class TokenCodec(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Stands wherever codes are kept, so that they can always be read."""

    @property
    def dim(self) -> int: ...

    @property
    def width(self) -> int:
        """Bytes a token."""

    @property
    def rotation(self) -> Floats:
        """Shape (dim, dim), with orthonormal columns."""

    @property
    def centroids(self) -> Floats:
        """What each byte stands for, shape (width, 256, size): `decode` joins them, turns them back by the
        rotation and brings them to length 1. The components beyond `dim` are 0."""

    def encode(self, vectors: Floats) -> Codes:
        """Vectors of length 1, shape (n, dim), as codes of shape (n, width)."""

    def decode(self, codes: Codes) -> Floats:
        """The vectors that the codes stand for, shape (n, dim), each of length 1."""


def codec_for(encoder_name: str, dim: int) -> TokenCodec:
    """The codec for what an encoder makes from now on."""
    trained = encoder_name == TRAINED_FOR and dim == _trained().dim
    return _trained() if trained else _rotated(dim)


def codec_named(name: str, dim: int) -> TokenCodec:
    """The codec that codes were made with. Raises EncoderError if this program has none of that name."""
    if name == ROTATED:
        return _rotated(dim)
    if name == TRAINED and dim == _trained().dim:
        return _trained()
    raise EncoderError(f"There is no codec {name!r} for token vectors of dimension {dim} in this program.")


def codec_of(spec: VersionSpec) -> TokenCodec | None:
    """The codec of a version's token vectors; None where it keeps none, or this program lacks the codec."""
    if spec.token_codec is None:
        return None
    try:
        return codec_named(spec.token_codec, spec.dim)
    except EncoderError:
        return None


class RotatedCodec:
    """Two bits a component after a fixed rotation.

    The rotation, random signs and then a cosine transform, spreads the few large components that token
    vectors have over all of them.

    >>> codec = RotatedCodec(384)
    >>> vectors = np.eye(384, dtype=np.float32)[:5]
    >>> codes = codec.encode(vectors)
    >>> codes.shape, bool(((codec.decode(codes) * vectors).sum(axis=1) > 0.8).all())
    ((5, 96), True)
    """

    name = ROTATED

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.width = -(-dim // 4)
        self.rotation = _signed_cosines(dim)
        self.centroids = self._fours()

    def encode(self, vectors: Floats) -> Codes:
        rotated = (vectors @ self.rotation) * np.float32(np.sqrt(self.dim))
        levels = np.zeros((len(vectors), 4 * self.width), dtype=np.uint8)
        levels[:, : self.dim] = np.searchsorted(_BORDERS, rotated)
        fours = levels.reshape(len(vectors), self.width, 4)
        shifted = fours << np.array([0, 2, 4, 6], dtype=np.uint8)
        return np.asarray(np.bitwise_or.reduce(shifted, axis=2), dtype=np.uint8)

    def decode(self, codes: Codes) -> Floats:
        fours = np.stack([codes >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
        levels = _LEVELS[fours.reshape(len(codes), 4 * self.width)[:, : self.dim]]
        return _unit(levels @ self.rotation.T)

    def _fours(self) -> Floats:
        """What each byte stands for: the levels of four components."""
        levels = _LEVELS[np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3] / np.float32(
            np.sqrt(self.dim)
        )
        centroids = np.tile(levels, (self.width, 1, 1))
        centroids[-1, :, self.dim - 4 * (self.width - 1) :] = 0
        return centroids


class ProductCodec:
    """A byte for each of `n_parts` runs of the rotated components: which of its 256 centroids is nearest.

    `rotation` has shape (dim, dim) and orthonormal columns, `centroids` shape (n_parts, 256, dim / n_parts).
    """

    def __init__(self, name: str, rotation: Floats, centroids: Floats) -> None:
        self.name = name
        self.dim = len(rotation)
        self.width = len(centroids)
        self.rotation = rotation
        self.centroids = centroids
        self._half_norms = (centroids**2).sum(axis=2) / 2

    @classmethod
    def load(cls, name: str, path: Path) -> ProductCodec:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(name, *(arrays[key].astype(np.float32) for key in ("rotation", "centroids")))

    def encode(self, vectors: Floats) -> Codes:
        codes = np.empty((len(vectors), self.width), dtype=np.uint8)
        for start in range(0, len(vectors), _TOKENS_A_SLICE):
            part = slice(start, start + _TOKENS_A_SLICE)
            rotated = (vectors[part] @ self.rotation).reshape(-1, self.width, self.centroids.shape[2])
            for number, centroids in enumerate(self.centroids):
                likeness = rotated[:, number] @ centroids.T - self._half_norms[number]
                codes[part, number] = likeness.argmax(axis=1)
        return codes

    def decode(self, codes: Codes) -> Floats:
        chosen = self.centroids[np.arange(self.width), codes]
        return _unit(chosen.reshape(len(codes), self.dim) @ self.rotation.T)


@lru_cache(maxsize=8)
def _rotated(dim: int) -> RotatedCodec:
    return RotatedCodec(dim)


@lru_cache(maxsize=1)
def _trained() -> ProductCodec:
    with as_file(files("indexing") / f"{TRAINED}.npz") as path:
        return ProductCodec.load(TRAINED, path)


def _signed_cosines(dim: int) -> Floats:
    """An orthonormal matrix that is the same everywhere: the cosine transform of flipped components."""
    bits = np.frombuffer(shake_256(b"token vectors").digest(-(-dim // 8)), dtype=np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(bits, count=dim)
    cosines: NDArray[np.float64] = np.cos(np.pi / dim * np.outer(np.arange(dim) + 0.5, np.arange(dim)))
    cosines *= np.sqrt(2 / dim)
    cosines[:, 0] /= np.sqrt(2)
    return (signs[:, None] * cosines).astype(np.float32)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-9)))
