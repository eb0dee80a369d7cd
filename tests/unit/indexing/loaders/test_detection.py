from __future__ import annotations

from pathlib import Path

import pytest

from indexing.errors import LoadError
from indexing.loaders import detect_format
from tests.unit.indexing.loaders.documents import ole, pdf, word_document, zip_of

MAIL = b"From: a@example.org\nTo: b@example.org\nSubject: x\n\nbody"


@pytest.mark.parametrize(
    ("filename", "data", "expected"),
    [
        ("a.txt", b"words", "txt"),
        ("a.TXT", b"words", "txt"),
        ("notes", b"words", "txt"),
        ("a.unknown", b"words", "txt"),
        ("a.py", b"pass", "code"),
        ("Makefile", b"all:", "code"),
        ("a.yaml", b"a: 1", "code"),
        # content wins over the name
        ("a.txt", pdf("x"), "pdf"),
        ("a.pdf", word_document(), "docx"),
        ("a.doc", b"{\\rtf1 x}", "rtf"),
        ("a.xls", b"<html><body><table></table></body></html>", "html"),
        ("a.pdf", b"<!DOCTYPE html><p>x", "html"),
        ("a.xml", b"<?xml version='1.0'?><html xmlns='x'></html>", "html"),
        # names that say nothing
        ("a", b"<?xml version='1.0'?><a/>", "xml"),
        ("a", b"<!-- hi -->\n<html>", "html"),
        ("a", MAIL, "eml"),
        ("a", b"WEBVTT\n", "vtt"),
        ("a", b'{"a": 1}', "json"),
        # text of one kind stays that kind
        ("a.txt", b"<html></html>", "txt"),
        ("a.md", MAIL, "md"),
        ("a.py", b"{}", "code"),
        # damage is for the loader to name
        ("a.pdf", b"\x01\x02\x03\x04" * 50, "pdf"),
        ("a.docx", b"PK\x03\x04 cut", "docx"),
    ],
)
def test_format(tmp_path: Path, filename: str, data: bytes, expected: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(data)
    assert detect_format(path, filename) == expected


@pytest.mark.parametrize(
    ("filename", "data", "code"),
    [
        ("a.txt", b"", "empty_file"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", "unsupported_format"),
        ("a.bin", bytes(range(256)) * 8, "unsupported_format"),
        ("a.zip", zip_of({"a.txt": "words"}), "unsupported_format"),
        ("a.zip", b"PK\x03\x04 cut", "unsupported_format"),
        ("a.txt", b"\x7fELF\x02", "unsupported_format"),
        ("a.doc", ole({"Something": b"x"}), "unsupported_format"),
        ("a.docx", ole({"EncryptedPackage": b"x"}), "encrypted_file"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 cut", "corrupt_file"),
    ],
)
def test_refusal(tmp_path: Path, filename: str, data: bytes, code: str) -> None:
    path = tmp_path / "blob"
    path.write_bytes(data)
    with pytest.raises(LoadError) as caught:
        detect_format(path, filename)
    assert caught.value.code == code
