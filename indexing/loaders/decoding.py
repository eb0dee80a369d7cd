"""Bytes to characters, for files that do not always say how they are encoded."""

from __future__ import annotations

import codecs
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass

from charset_normalizer import from_bytes

from indexing.errors import LoadError

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_PIECE_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 16
_WIDE_SAMPLE_BYTES = 4096
_MIN_BYTES_TO_GUESS = 200  # under this the guess is a lottery between the single-byte encodings
Buffer = bytes | mmap.mmap

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How bytes are decoded; the characters begin behind the mark."""

    name: str
    errors: str
    begin: int = 0


def decode(data: bytes, declared: str | None = None) -> str:
    """The characters of `data`: by its mark, as UTF-8, as declared, by a guess.

    Raises encoding_unknown for binary data.
    """
    return "".join(decoded_pieces(data, declared))


def decoded_pieces(data: Buffer, declared: str | None = None) -> Iterator[str]:
    """What `decode` gives, a megabyte of bytes at a time; `data` may be a mapped file."""
    encoding = _encoding(data, declared)
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    for start in range(encoding.begin, len(data), _PIECE_BYTES):
        text = decoder.decode(data[start : start + _PIECE_BYTES], start + _PIECE_BYTES >= len(data))
        if start == encoding.begin:
            _refuse_binary(text[:_SAMPLE_BYTES])
        yield text


def _refuse_binary(sample: str) -> None:
    if len(_CONTROLS.findall(sample)) > len(sample) // 50:
        raise LoadError("encoding_unknown", "the bytes are not text in any encoding known here")


def _encoding(data: Buffer, declared: str | None) -> _Encoding:
    for mark, name in _MARKS:
        if data[: len(mark)] == mark:
            return _Encoding(name, "replace", len(mark))
    wide = _wide_encoding(data[:_WIDE_SAMPLE_BYTES])
    if wide is not None:
        return _Encoding(wide, "replace")
    if _is_utf8(data):
        return _Encoding("utf-8", "strict")
    return _Encoding(_other_encoding(data[:_SAMPLE_BYTES], declared), "replace")


def _is_utf8(data: Buffer) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        for start in range(0, len(data), _PIECE_BYTES):
            decoder.decode(data[start : start + _PIECE_BYTES], start + _PIECE_BYTES >= len(data))
    except UnicodeDecodeError:
        return False
    return True


def _other_encoding(sample: bytes, declared: str | None) -> str:
    if declared is not None and _is_known(declared):
        return declared
    if _is_broken_utf8(sample):
        return "utf-8"
    guess = from_bytes(sample).best() if len(sample) >= _MIN_BYTES_TO_GUESS else None
    return guess.encoding if guess is not None else "cp1252"


def _is_known(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False


def _wide_encoding(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, seen by where its zero bytes stand."""
    length = len(sample) - len(sample) % 4
    if length < 4 or sample.count(0) < length // 8:
        return None
    zeros = [sample[offset:length:4].count(0) / (length // 4) for offset in range(4)]
    match [share > 0.7 for share in zeros]:
        case [False, True, True, True]:
            return "utf-32-le"
        case [True, True, True, False]:
            return "utf-32-be"
    return _wide_by_words(sample[: len(sample) - len(sample) % 2])


def _wide_by_words(sample: bytes) -> str | None:
    """The byte order in which the sample is text with at least some ASCII words, None where neither is."""
    for name in ("utf-16-le", "utf-16-be"):
        text = sample.decode(name, "replace")
        n_ascii = sum(character.isascii() and character.isprintable() for character in text)
        n_wrong = len(_CONTROLS.findall(text)) + text.count("\ufffd")
        if n_ascii > 0.3 * len(text) and n_wrong <= len(text) // 100 + 1:
            return name
    return None


def _is_broken_utf8(sample: bytes) -> bool:
    """UTF-8 with a few damaged characters: at least twice as many are whole."""
    text = sample.decode("utf-8", "replace")
    n_damaged = text.count("\ufffd")
    n_whole = sum(not character.isascii() for character in text) - n_damaged
    return n_whole >= 2 * n_damaged
