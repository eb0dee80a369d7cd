"""From settings to generators."""

from __future__ import annotations

from app.generation.base import Generator
from app.generation.extractive import ExtractiveGenerator, ExtractiveSettings
from app.settings import AnswerSettings
from indexing.encoding.base import Encoder


def extractive_generator(settings: AnswerSettings, encoder: Encoder) -> Generator:
    """The generator that needs no language model."""
    return ExtractiveGenerator(
        encoder,
        ExtractiveSettings(max_sentences=settings.max_sentences, min_confidence=settings.min_confidence),
    )
