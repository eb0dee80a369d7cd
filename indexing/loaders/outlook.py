"""Outlook messages (.msg), after Microsoft's [MS-OXMSG]: properties stored as streams named by their tags."""

from __future__ import annotations

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder
from indexing.loaders.decoding import decode
from indexing.loaders.html import decode_html, write_html
from indexing.loaders.ole import OleStreams
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_SUBJECT, _SENDER, _SENDER_ADDRESS, _TO, _CC = "0037", "0C1A", "0C1F", "0E04", "0E03"
_BODY, _HTML_BODY, _CLASS, _ATTACHMENT_NAME = "1000", "1013", "001A", "3707"
_ATTACHMENT_TYPE = "370E"
_ENCRYPTED_TYPES = ("application/pgp-encrypted", "application/pkcs7-mime")
_UNICODE, _ANSI, _BINARY = "001F", "001E", "0102"


def load_msg(source: SourceFile) -> LoadedText:
    """A message: subject, sender, recipients and body; names of attachments go to the metadata."""
    streams = OleStreams(source)
    names = set(streams.names())

    def value(tag: str, folder: str = "") -> str:
        unicode_name, ansi_name = (f"{folder}__substg1.0_{tag}{kind}" for kind in (_UNICODE, _ANSI))
        if unicode_name in names:
            return streams.read(unicode_name).decode("utf-16-le", "replace").strip("\0 \r\n")
        if ansi_name in names:
            return decode(streams.read(ansi_name).rstrip(b"\0")).strip()
        return ""

    if "smime" in value(_CLASS).lower() and "multipartsigned" not in value(_CLASS).lower():
        raise LoadError("encrypted_file", "the message is encrypted")
    sender = " ".join(filter(None, (value(_SENDER), value(_SENDER_ADDRESS))))
    headers = {"From": sender, "To": value(_TO), "Cc": value(_CC)}
    builder = TextBuilder(source.limits.text_chars)
    subject = value(_SUBJECT)
    builder.heading(subject, 1)
    builder.paragraph("\n".join(f"{name}: {words}" for name, words in headers.items() if words))
    body = value(_BODY)
    if body:
        builder.paragraph(body)
    elif (html := f"__substg1.0_{_HTML_BODY}{_BINARY}") in names:
        write_html(builder, decode_html(streams.read(html)))
    metadata: dict[str, Scalar | list[str]] = {"subject": subject}
    metadata |= {name.lower(): words for name, words in headers.items() if words}
    folders = sorted({name.partition("/")[0] for name in names if name.startswith("__attach")})
    attachments = [name for folder in folders if (name := value(_ATTACHMENT_NAME, f"{folder}/"))]
    if not body and any(value(_ATTACHMENT_TYPE, f"{folder}/") in _ENCRYPTED_TYPES for folder in folders):
        raise LoadError("encrypted_file", "the message is encrypted")
    if attachments:
        metadata["attachments"] = attachments
    return builder.finish(title=subject, metadata=metadata)
