"""Kept token vectors: the codes of one text's tokens as bytes that say which codec they were made with.

The bytes are a magic word, the length of the codec's name and the name, and the codes. Where the tokens stand
in the text is not kept: the encoder's tokenizer tells it again, and eight bytes a token were a quarter more.
"""

from __future__ import annotations

import numpy as np

from indexing.token_codec import TokenCodec, codec_named
from indexing.token_codes import Codes
from indexing.types import Floats

_MAGIC = b"footcod1"


def to_bytes(codec: str, codes: Codes) -> bytes:
    """Codes of shape (n_tokens, width) as they are kept.

    >>> to_bytes("rotated-2", np.array([[7], [9]], dtype=np.uint8))
    b'footcod1\\trotated-2\\x07\\t'
    """
    return _MAGIC + bytes([len(codec)]) + codec.encode("ascii") + codes.tobytes()


def codes_of(data: bytes, n_tokens: int, codec: TokenCodec) -> Codes:
    """Kept token vectors as codes of a codec: coded anew where they were kept under another.

    Raises ValueError if the sizes disagree, EncoderError if this program does not know how they were coded.
    """
    kept = _kept_codec(data, codec.dim)
    if kept is None or kept.name != codec.name:
        return codec.encode(vectors_of(data, n_tokens, codec.dim))
    return _codes(data, n_tokens, codec)


def vectors_of(data: bytes, n_tokens: int, dim: int) -> Floats:
    """Kept token vectors, shape (n_tokens, dim), each of length 1. Raises as `codes_of` does."""
    kept = _kept_codec(data, dim)
    return _eight_bits(data, n_tokens, dim) if kept is None else kept.decode(_codes(data, n_tokens, kept))


def _kept_codec(data: bytes, dim: int) -> TokenCodec | None:
    """What the vectors were coded with; None for the form before there were codecs."""
    if not data.startswith(_MAGIC):
        return None
    size = data[len(_MAGIC)]
    return codec_named(data[len(_MAGIC) + 1 :][:size].decode("ascii", "replace"), dim)


def _codes(data: bytes, n_tokens: int, codec: TokenCodec) -> Codes:
    start = len(_MAGIC) + 1 + len(codec.name)
    if len(data) - start != n_tokens * codec.width:
        raise ValueError(f"{len(data) - start} bytes are not {n_tokens} codes of {codec.width} bytes")
    return np.frombuffer(data, np.uint8, offset=start).reshape(n_tokens, codec.width)


def _eight_bits(data: bytes, n_tokens: int, dim: int) -> Floats:
    """The first form: a float16 scale and two int32 offsets a token, then a signed byte a component."""
    if len(data) != n_tokens * (dim + 10):
        raise ValueError(f"{len(data)} bytes are not {n_tokens} tokens of dimension {dim}")
    rounded = np.frombuffer(data, np.int8, n_tokens * dim, offset=10 * n_tokens).reshape(n_tokens, dim)
    vectors: Floats = rounded.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-9)))
