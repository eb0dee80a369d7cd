from __future__ import annotations

import pytest

from indexing.errors import LoadError
from indexing.loaders.decoding import decode

SENTENCE = "Déjà vu à l’école : coûte 30 € — naïve façade."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_with_and_without_a_mark(encoding: str) -> None:
    assert decode(SENTENCE.encode(encoding)) == SENTENCE


@pytest.mark.parametrize(
    "text",
    [
        "Zażółć gęślą jaźń — naïve café, 東京, Привет, end.",
        "plain words",
        "слова и ещё слова, and English words",
    ],
)
def test_wide_encodings_without_a_mark_in_other_scripts(text: str) -> None:
    assert decode(text.encode("utf-16-le")) == text


def test_short_western_text() -> None:
    assert decode(SENTENCE.encode("cp1252")) == SENTENCE


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 6),
        ("shift_jis", "いろはにほへと ちりぬるを。わかよたれそ つねならむ。" * 8),
        ("cp1253", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Η γρήγορη αλεπού πηδά. " * 6),
    ],
)
def test_long_text_in_another_script_is_guessed(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_declared_charset_is_honoured() -> None:
    assert decode("žluťoučký kůň".encode("cp1250"), "windows-1250") == "žluťoučký kůň"
    assert decode("é".encode(), "latin-1") == "é"  # valid UTF-8 is UTF-8, whatever the file says
    assert decode(b"caf\xe9", "no-such-charset") == "café"
    assert decode(b"caf\xe9", "zlib_codec") == "café"


def test_damaged_utf8_keeps_its_whole_characters() -> None:
    assert decode("naïve ".encode() * 5 + b"\xff" + "façade".encode()) == "naïve " * 5 + "\ufffdfaçade"


def test_binary_data_is_refused() -> None:
    with pytest.raises(LoadError) as caught:
        decode(bytes(range(1, 32)) * 20)
    assert caught.value.code == "encoding_unknown"
