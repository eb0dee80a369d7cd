"""Mail messages (RFC 5322): the headers a reader sees, the body, and attached text."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder
from indexing.loaders.decoding import decode
from indexing.loaders.html import decode_html, write_html
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_SHOWN_HEADERS = ("Subject", "From", "To", "Cc", "Date")
_ENCRYPTED_TYPES = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
_MAX_PARTS = 1000


def load_mail(source: SourceFile) -> LoadedText:
    """A message with its attached texts and messages; names of other attachments go to the metadata."""
    message = BytesParser(EmailMessage, policy=policy.default).parsebytes(source.data())
    if not message.keys() and not message.is_multipart():
        raise LoadError("corrupt_file", "the message has no headers")
    if message.get_content_type() in _ENCRYPTED_TYPES and _is_sealed(message):
        raise LoadError("encrypted_file", "the message is encrypted")
    builder = TextBuilder(source.limits.text_chars)
    headers = _headers(message)
    if subject := headers.get("Subject"):
        builder.heading(subject, 1)
    builder.paragraph("\n".join(f"{name}: {value}" for name, value in headers.items() if name != "Subject"))
    attachments: list[str] = []
    _write_parts(builder, message, attachments)
    metadata: dict[str, Scalar | list[str]] = {name.lower(): value for name, value in headers.items()}
    if attachments:
        metadata["attachments"] = attachments
    return builder.finish(title=headers.get("Subject"), metadata=metadata)


def _is_sealed(message: EmailMessage) -> bool:
    return message.get_param("smime-type") not in ("signed-data", "certs-only")


def _headers(message: EmailMessage) -> dict[str, str]:
    headers = {}
    for name in _SHOWN_HEADERS:
        try:
            value = message.get(name)
        except (ValueError, IndexError, AttributeError, TypeError, LookupError):
            continue  # a header so damaged that the parser gives up; the message still has a body
        if value and str(value).strip():
            headers[name] = str(value)
    return headers


def _write_parts(builder: TextBuilder, message: EmailMessage, attachments: list[str]) -> None:
    body = _body(message)
    if body is not None:
        _write_text(builder, body)
    for number, part in enumerate(message.walk()):
        if part is body or number > _MAX_PARTS:
            continue
        kind, name = part.get_content_type(), _filename(part)
        if part.is_multipart() and kind == "message/rfc822":
            builder.heading(_subject(part.get_payload()), 2)
            continue
        if part.is_multipart():
            continue
        if name:
            attachments.append(name)
        is_text = kind == "text/plain" or (kind.startswith("text/") and name)
        if is_text and not _is_alternative(message, part):
            if name:
                builder.heading(name, 2)
            _write_text(builder, part)


def _subject(messages: object) -> str:
    """The subject of an attached message."""
    attached = messages[0] if isinstance(messages, list) and messages else None
    return str(attached.get("Subject", "")) if isinstance(attached, Message) else ""


def _body(message: EmailMessage) -> Message | None:
    try:
        return message.get_body(("plain", "html"))
    except (AttributeError, KeyError, ValueError, RecursionError):
        return None


def _is_alternative(message: EmailMessage, part: Message) -> bool:
    """The same words once more, in another format."""
    return any(
        whole.get_content_type() == "multipart/alternative" and part in whole.get_payload()
        for whole in message.walk()
        if whole.is_multipart() and isinstance(whole.get_payload(), list)
    )


def _filename(part: Message) -> str:
    try:
        return part.get_filename() or ""
    except (ValueError, AttributeError, TypeError, LookupError):
        return ""


def _write_text(builder: TextBuilder, part: Message) -> None:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes) or not data.strip():
        return
    charset = part.get_content_charset()
    if part.get_content_subtype() == "html":
        write_html(builder, decode(data, charset) if charset else decode_html(data))
    else:
        builder.paragraph(decode(data, charset))
