"""Errors of the database layer.

DatabaseError
├── DatabaseUrlError        the address is of no known database, or its folder is missing
├── SchemaError
│     ├── SchemaMissing     the database has no tables yet
│     ├── SchemaBehind      the tables are older than this program
│     └── SchemaUnknown     the tables are newer than this program
├── NotFound
│     ├── CollectionNotFound · DocumentNotFound · RevisionNotFound · JobNotFound · VersionNotFound
│     └── GoldenQuestionNotFound · DeletionNotFound
├── Conflict
│     ├── CollectionExists  the name is taken
│     ├── CollectionInUse   the default collection is never deleted
│     ├── JobNotRetryable · JobNotCancellable
│     ├── VersionNotReady   only a ready version can be served
│     └── VersionActive     the version that is served cannot be deleted
└── InvalidValue
      ├── InvalidText       a text that no database can hold (NUL, lone surrogate), or too long
      ├── MetadataError     metadata that cannot be filtered
      ├── CursorError       a page cursor that we did not make
      └── FilterError       a filter that cannot be honoured; `path` says where
"""

from __future__ import annotations


class DatabaseError(Exception):
    """Base of every error of the database layer; `code` is stable, `detail` is for a person."""

    code: str = "database_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class DatabaseUrlError(DatabaseError):
    """The address is of no known database, or the folder of the file is missing."""

    code = "database_url"


class SchemaError(DatabaseError):
    """Base of the errors of a schema that does not fit this program."""

    code = "schema_error"


class SchemaMissing(SchemaError):
    """The database has no tables yet."""

    code = "schema_missing"


class SchemaBehind(SchemaError):
    """The tables are older than this program."""

    code = "schema_behind"


class SchemaUnknown(SchemaError):
    """The tables were made by a newer program, or by another one."""

    code = "schema_unknown"


class NotFound(DatabaseError):
    """Base of the errors of a row that is not there."""

    code = "not_found"


class CollectionNotFound(NotFound):
    code = "collection_not_found"


class DocumentNotFound(NotFound):
    code = "document_not_found"


class RevisionNotFound(NotFound):
    code = "revision_not_found"


class JobNotFound(NotFound):
    code = "job_not_found"


class VersionNotFound(NotFound):
    code = "index_version_not_found"


class GoldenQuestionNotFound(NotFound):
    code = "golden_question_not_found"


class DeletionNotFound(NotFound):
    code = "deletion_not_found"


class Conflict(DatabaseError):
    """Base of the errors of a change that the present state forbids."""

    code = "conflict"


class CollectionExists(Conflict):
    code = "collection_exists"


class CollectionInUse(Conflict):
    code = "collection_in_use"


class JobNotRetryable(Conflict):
    code = "job_not_retryable"


class JobNotCancellable(Conflict):
    code = "job_not_cancellable"


class VersionNotReady(Conflict):
    code = "index_version_not_ready"


class VersionActive(Conflict):
    code = "index_version_active"


class InvalidValue(DatabaseError):
    """Base of the errors of a value that came from outside."""

    code = "invalid_value"


class InvalidText(InvalidValue):
    """A text that not every database can hold, or one that is too long."""

    code = "invalid_text"


class MetadataError(InvalidValue):
    """Metadata that cannot be kept so that a filter finds it."""

    code = "invalid_metadata"


class CursorError(InvalidValue):
    """A page cursor that was not made here."""

    code = "invalid_cursor"


class FilterError(InvalidValue):
    """A filter that cannot be honoured; `path` is where, as in `$and[1].year.$gt`."""

    code = "invalid_filter"

    def __init__(self, detail: str, path: str = "") -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.detail = detail
        self.path = path

    def __reduce__(self) -> tuple[type[FilterError], tuple[str, str]]:
        return (FilterError, (self.detail, self.path))
