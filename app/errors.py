"""Errors of the service.

FootnoteError                       `code` is stable, the message is for a person
├── NotFound                        document_not_found · job_not_found · text_not_ready · file_not_found
├── Conflict                        no_previous_version · too_many_deletions · folder_changed
│     └── KeyInUse                  idempotency_key_in_use; `retry_after_seconds`
├── Gone                            document_deleted
├── InvalidRequest                  invalid_request · invalid_filter · llm_not_configured
├── Forbidden                       host_not_allowed · origin_not_allowed
├── PayloadTooLarge                 a file above the limit
├── Overloaded                      more requests than places; `retry_after_seconds`
└── Unavailable                     the index, the encoder or the database cannot be used now

Below `app` the trees are `indexing.errors.IndexingError`, `app.db.errors.DatabaseError` and
`app.generation.errors.GenerationError`; `app.problems` maps them all to HTTP.
"""

from __future__ import annotations


class FootnoteError(Exception):
    """Base of the errors that reach a user by name."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class NotFound(FootnoteError):
    """What was asked for is not there."""

    code = "not_found"


class Conflict(FootnoteError):
    """The present state does not allow it."""

    code = "conflict"


class Busy(Conflict):
    """Another works on it: what a job could not do for that reason is done later."""


class KeyInUse(Conflict):
    """The first request with this key is still worked on."""

    code = "idempotency_key_in_use"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Gone(FootnoteError):
    """What was asked for was there and will not come back."""

    code = "gone"


class InvalidRequest(FootnoteError):
    """The request says something that cannot be done."""

    code = "invalid_request"


class Forbidden(FootnoteError):
    """Who asks may not."""

    code = "forbidden"


class PayloadTooLarge(FootnoteError):
    """The file is larger than `server.max_upload_bytes`."""

    code = "payload_too_large"


class Overloaded(FootnoteError):
    """All places are taken and the queue is full."""

    code = "overloaded"

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(FootnoteError):
    """A part that the request needs cannot be used now."""

    code = "unavailable"
