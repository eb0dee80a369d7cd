"""Errors of backup and restore.

FootnoteError
├── Conflict
│     ├── ArchiveExists        there is a file of that name already
│     ├── TargetNotEmpty       the database has data, and nothing was said about replacing it
│     └── TargetInUse          another process has the database open, or restores into it
└── InvalidRequest
      ├── ArchiveUnknown       the file is no backup of Footnote
      ├── ArchiveNewer         it was made by a newer program
      └── ArchiveDamaged       it is cut off, changed, or not what its own list says
"""

from __future__ import annotations

from app.errors import Conflict, InvalidRequest


class ArchiveExists(Conflict):
    """There is a file of that name already."""

    code = "archive_exists"


class TargetNotEmpty(Conflict):
    """The database to restore into has data."""

    code = "target_not_empty"


class TargetInUse(Conflict):
    """Another process has the database open, or is restoring into it."""

    code = "target_in_use"


class ArchiveUnknown(InvalidRequest):
    """The file is no backup of Footnote."""

    code = "archive_unknown"


class ArchiveNewer(InvalidRequest):
    """The backup was made by a newer program than this."""

    code = "archive_newer"


class ArchiveDamaged(InvalidRequest):
    """The backup is not what was written."""

    code = "archive_damaged"
