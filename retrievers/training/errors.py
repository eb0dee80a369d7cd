"""Errors of training."""

from __future__ import annotations

from indexing.errors import IndexingError


class TrainingError(IndexingError):
    """Nothing can be learned from the data, or what was begun cannot be taken up; the message says why."""

    code = "training_error"
