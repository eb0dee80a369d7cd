"""Errors of the read path."""

from __future__ import annotations

from indexing.errors import IndexingError


class ModeUnavailable(IndexingError):
    """A mode needs what this index version does not have; the message says how to get it."""

    code = "mode_unavailable"
