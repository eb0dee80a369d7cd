"""An answer beside what is known of it, by words alone: no model judges here.

A claim counts as made where most of the words that carry its meaning are there. Other wordings of the same
can be missed, so a diagnosis shows the answer beside its verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from app.errors import InvalidRequest
from app.generation.words import stems
from indexing.sentences import split_sentences

COVERED = 0.6
"""Share of a claim's words that must be there."""

MUCH_LONGER = 3
"""An answer of so many times the claims of the reference, and two more, says too much."""

MATCH_SECONDS = 1.0
"""Expressions come from whoever asks, and `re` could hold up the whole process for ever over one."""

Verdict = Literal["right", "partial", "too_general", "wrong"]

_ITEM = re.compile(r"(?m)^\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_ROW = re.compile(r"(?m)^\s*\|.*\|\s*$")
_NUMBER = re.compile(r"\d")
_PARTS = re.compile(r"\s*(?:;|\n)\s*")
_MARKER = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An answer beside a reference: which of its claims are missing."""

    verdict: Verdict
    claims: tuple[str, ...]
    missing: tuple[str, ...]
    too_long: bool

    @property
    def coverage(self) -> float:
        return 1 - len(self.missing) / len(self.claims)


def compare(answer: str, references: Sequence[str]) -> Comparison:
    """Beside the reference that the answer covers best. Raises ValueError without one."""
    found = [_compare(answer, reference) for reference in references]
    return max(found, key=lambda item: (item.coverage, item.verdict == "too_general"))


def claims_of(text: str) -> tuple[str, ...]:
    """Sentences, and the items of a list.

    >>> claims_of("It boils; it steams. It cools.")
    ('It boils', 'it steams.', 'It cools.')
    """
    without = _MARKER.sub("", text)
    sentences = [without[start:end] for start, end in split_sentences(without)] or [without]
    parts = [_ITEM.sub("", part).strip() for sentence in sentences for part in _PARTS.split(sentence)]
    return tuple(part for part in parts if part) or (text,)


def says(text: str, claim: str) -> bool:
    """Whether the claim stands there word for word, or most of its words do.

    >>> says("A lease lasts thirty seconds.", "thirty seconds"), says("A lease ends.", "thirty seconds")
    (True, False)
    """
    if contains(text, claim):
        return True
    wanted = set(stems(claim))
    return bool(wanted) and len(wanted & set(stems(text))) >= COVERED * len(wanted)


def contains(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text as whole words; case and white space are of no account.

    >>> contains("It takes 30\\n seconds.", "30 Seconds"), contains("1300 seconds", "30")
    (True, False)
    """
    words = [re.escape(word) for word in phrase.casefold().split()]
    pattern = r"(?<!\w)" + r"\s+".join(words) + r"(?!\w)"
    return bool(words) and re.search(pattern, text.casefold()) is not None


def has_format(answer: str, wanted: str) -> bool:
    """Whether an answer has a format of `diagnosis.FORMATS`, or matches `/a regular expression/`.

    Raises InvalidRequest for an expression that takes too long.

    >>> has_format("- tea\\n- water", "list"), has_format("tea and water", "list")
    (True, False)
    """
    plain = _MARKER.sub("", answer).strip()
    if wanted == "list":
        return len(_ITEM.findall(plain)) >= 2
    if wanted == "table":
        return len(_ROW.findall(plain)) >= 2
    if wanted == "number":
        return _NUMBER.search(plain) is not None
    if wanted == "json":
        try:
            json.loads(plain)
        except (json.JSONDecodeError, RecursionError):
            return False
        return True
    try:
        found = regex.search(wanted[1:-1], plain, timeout=MATCH_SECONDS, concurrent=True)
    except TimeoutError as error:
        raise InvalidRequest(
            f"the format {wanted} takes longer than {MATCH_SECONDS:g} s to be looked for",
            code="invalid_questions_file",
        ) from error
    return found is not None


def _compare(answer: str, reference: str) -> Comparison:
    claims = claims_of(reference)
    missing = tuple(claim for claim in claims if not says(answer, claim))
    verdict: Verdict = "partial"
    if not missing:
        verdict = "right"
    elif len(missing) == len(claims):
        verdict = "too_general" if _is_general(answer, reference) else "wrong"
    return Comparison(
        verdict=verdict,
        claims=claims,
        missing=missing,
        too_long=not missing and len(claims_of(answer)) > MUCH_LONGER * len(claims) + 2,
    )


def _is_general(answer: str, reference: str) -> bool:
    """Whether the answer says part of the reference and little else: it follows from it, not the reverse."""
    said, wanted = set(stems(_MARKER.sub("", answer))), set(stems(reference))
    return bool(said) and len(said) < len(wanted) and len(said & wanted) >= 0.8 * len(said)
