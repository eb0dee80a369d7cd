"""From settings to generators."""

from __future__ import annotations

from app.generation.base import Generator
from app.generation.chat import ChatClient, ChatSettings
from app.generation.extractive import ExtractiveGenerator, ExtractiveSettings
from app.generation.fallback import FallbackGenerator
from app.generation.openai_compatible import OpenAiGenerator
from app.generation.verification import OverlapVerifier
from app.settings import AnswerSettings, LlmSettings
from indexing.encoding.base import Encoder


def extractive_generator(settings: AnswerSettings, encoder: Encoder) -> Generator:
    """The generator that needs no language model."""
    return ExtractiveGenerator(
        encoder,
        ExtractiveSettings(max_sentences=settings.max_sentences, min_confidence=settings.min_confidence),
    )


def llm_generator(settings: LlmSettings, encoder: Encoder, fallback: Generator) -> Generator:
    """The generator that asks the model of the settings, whose `base_url` is set."""
    if settings.base_url is None:
        raise ValueError("no base_url: there is no language model to ask")
    client = ChatClient(
        ChatSettings(
            base_url=settings.base_url,
            model=settings.model,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            timeout_seconds=settings.timeout_seconds,
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
        )
    )
    generator = OpenAiGenerator(
        client,
        encoder=encoder,
        verifier=OverlapVerifier(encoder),
        model=settings.model,
        context_tokens=settings.context_tokens,
    )
    return FallbackGenerator(generator, fallback) if settings.fallback else generator
