"""Bytes to characters, for files that do not always say how they are encoded."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

from indexing.errors import LoadError

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 1 << 16
_MIN_BYTES_TO_GUESS = 200  # under this the guess is a lottery between the single-byte encodings
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decode(data: bytes, declared: str | None = None) -> str:
    """The characters of `data`: by its mark, as UTF-8, as declared, by a guess.

    Raises encoding_unknown for binary data.
    """
    text = _decode(data, declared)
    sample = text[:_SAMPLE_BYTES]
    if len(_CONTROLS.findall(sample)) > len(sample) // 50:
        raise LoadError("encoding_unknown", "the bytes are not text in any encoding known here")
    return text


def _decode(data: bytes, declared: str | None) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    wide = _wide_encoding(data)
    if wide is not None:
        return data.decode(wide, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_other(data, declared)


def _decode_other(data: bytes, declared: str | None) -> str:
    if declared is not None and _is_known(declared):
        return data.decode(declared, "replace")
    if _is_broken_utf8(data):
        return data.decode("utf-8", "replace")
    guess = None
    if len(data) >= _MIN_BYTES_TO_GUESS:
        guess = from_bytes(data[:_SAMPLE_BYTES]).best()
    return data.decode(guess.encoding if guess is not None else "cp1252", "replace")


def _is_known(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, seen by where its zero bytes stand."""
    sample = data[:4096]
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


def _is_broken_utf8(data: bytes) -> bool:
    """UTF-8 with a few damaged characters: at least twice as many are whole."""
    sample = data[:_SAMPLE_BYTES].decode("utf-8", "replace")
    n_damaged = sample.count("\ufffd")
    n_whole = sum(not character.isascii() for character in sample) - n_damaged
    return n_whole >= 2 * n_damaged
