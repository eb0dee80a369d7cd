"""Errors of evaluation."""

from __future__ import annotations

from indexing.errors import IndexingError


class EvaluationError(IndexingError):
    """A collection cannot be read or measured; the message says which file and why."""

    code = "evaluation_error"
