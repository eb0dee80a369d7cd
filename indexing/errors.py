"""Errors of the write path.

IndexingError
├── LoadError                      a file gave no text; `code` is stable and reaches the user
│     unsupported_format · encrypted_file · corrupt_file · empty_file · too_large
│     loader_timeout · loader_memory · loader_crashed · encoding_unknown
├── EncoderError                   a model could not be loaded, or gave the wrong shape
├── LanguageModelError             a language model gave no answer; `kind` says how
│     llm_timeout · llm_rate_limited · llm_unavailable · llm_bad_response
├── DeviceMissing                  a device is set that is not there
└── IndexVersionError
      ├── IndexMissing             no such version directory
      ├── IndexDamaged             a checksum, count or id does not agree
      ├── IndexOutdated            the changes that the version lacks are not known any more
      └── EncoderMismatch          the version was built with another encoder
"""

from __future__ import annotations

from typing import Literal

LoadErrorCode = Literal[
    "unsupported_format",
    "encrypted_file",
    "corrupt_file",
    "empty_file",
    "too_large",
    "loader_timeout",
    "loader_memory",
    "loader_crashed",
    "encoding_unknown",
]


class IndexingError(Exception):
    """Base of every error of the write path; `code` is stable, the message is for a person."""

    code: str = "indexing_error"


class LoadError(IndexingError):
    """A file gave no text."""

    def __init__(self, code: LoadErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[LoadError], tuple[str, str]]:
        return (LoadError, (self.code, self.detail))


class EncoderError(IndexingError):
    """A model could not be loaded, or gave vectors of the wrong shape."""

    code = "encoder_error"


LanguageModelErrorKind = Literal["timeout", "rate_limited", "unavailable", "bad_response"]


class LanguageModelError(IndexingError):
    """A language model gave no answer: late, refused, not there, or not as its protocol says."""

    def __init__(self, kind: LanguageModelErrorKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.code = f"llm_{kind}"
        self.detail = detail

    def __reduce__(self) -> tuple[type[LanguageModelError], tuple[LanguageModelErrorKind, str]]:
        return (LanguageModelError, (self.kind, self.detail))


class DeviceMissing(IndexingError):
    """A device is set that this machine, or its build of PyTorch, does not have."""

    code = "device_missing"


class IndexVersionError(IndexingError):
    """Base of the errors of an index version on disk."""

    code = "index_error"


class IndexMissing(IndexVersionError):
    """There is no version directory, or it has no manifest."""

    code = "index_missing"


class IndexDamaged(IndexVersionError):
    """A checksum, a count or an id of the version does not agree with its manifest."""

    code = "index_damaged"


class IndexOutdated(IndexVersionError):
    """The version cannot catch up: the log of changes does not begin where the version ends."""

    code = "index_outdated"


class EncoderMismatch(IndexVersionError):
    """The version was built with another encoder than the one that is set."""

    code = "encoder_mismatch"
