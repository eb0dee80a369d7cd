"""What a diagnosis is of and what it says: questions with known answers, and seven points where one can fail.

Barnett et al. 2024, "Seven failure points when engineering a retrieval augmented generation system",
https://arxiv.org/abs/2401.05856, table 1.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import regex

from app.db.golden import Expected
from app.errors import InvalidRequest

Point = Literal["FP1", "FP2", "FP3", "FP4", "FP5", "FP6", "FP7"]
POINTS: tuple[Point, ...] = get_args(Point)

TITLES: Mapping[Point, str] = {
    "FP1": "missing content",
    "FP2": "missed the top ranks",
    "FP3": "not in context",
    "FP4": "not extracted",
    "FP5": "wrong format",
    "FP6": "incorrect specificity",
    "FP7": "incomplete",
}
ADVICE: Mapping[Point, str] = {
    "FP1": "Ingest what answers it; where it was answered anyway, raise FOOTNOTE_ANSWER_MIN_CONFIDENCE.",
    "FP2": "See which list ranks it best: tune the weights, search deeper, rerank, or transform the query.",
    "FP3": "See the stage: raise rerank_k, top_k or FOOTNOTE_LLM_CONTEXT_TOKENS, or loosen the filter.",
    "FP4": "Give fewer passages, rerank them, or take another language model; look at the chunk's wording.",
    "FP5": "Say the format in the question, and take a language model that keeps to it.",
    "FP6": "Ask more precisely; give more passages where it is too general, fewer where it is too long.",
    "FP7": "Raise FOOTNOTE_ANSWER_MAX_SENTENCES, or split the question.",
}
FORMATS = ("list", "table", "json", "number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question and what is known of its answer.

    `answers` are wordings of which each would do; `expected` are the documents or quotations that hold it.
    An `unanswerable` question is to be refused. `format` is one of `FORMATS`, or `/a regular expression/`.
    """

    question: str
    answers: tuple[str, ...] = ()
    expected: tuple[Expected, ...] = ()
    unanswerable: bool = False
    format: str | None = None
    filters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What became of a case: the points at which it failed, the cause first, none where all went well.

    The cause is the first of FP1 to FP4 that holds; FP5 to FP7 are of answers that rest on the right passage.
    """

    case: Case
    failures: tuple[Point, ...]
    answer: str | None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cause(self) -> Point | None:
        return self.failures[0] if self.failures else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How many questions failed at which point, and what to try, for the most frequent first."""

    n_questions: int
    n_right: int
    counts: Mapping[Point, int]
    advice: Mapping[Point, str]


def summarise(diagnoses: Sequence[Diagnosis]) -> Summary:
    counts: Counter[Point] = Counter(point for item in diagnoses for point in item.failures)
    frequent = [point for point, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    return Summary(
        n_questions=len(diagnoses),
        n_right=sum(not item.failures for item in diagnoses),
        counts={point: counts[point] for point in POINTS},
        advice={point: ADVICE[point] for point in frequent},
    )


def read(path: Path) -> list[Case]:
    """The cases of a JSONL file.

    A line has `question`, and `answer` or `answers`, or `expected` or `source` with `quote` as golden
    questions have them, or `"unanswerable": true`; perhaps `format` and `filters`. Raises InvalidRequest
    (`invalid_questions_file`) that names the line or says that there is none, and OSError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise _refused(str(path), "it is not UTF-8") from error
    cases = [
        _case(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not cases:
        raise _refused(str(path), "it holds no question")
    return cases


def _case(line: str, where: str) -> Case:
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _refused(where, f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise _refused(where, "not a JSON object")
    case = Case(
        question=_text(record.get("question"), where, "question"),
        answers=tuple(_text(item, where, "answer") for item in _listed(record, "answers", "answer")),
        expected=tuple(_expected(item, where) for item in _places(record)),
        unanswerable=record.get("unanswerable") is True,
        format=None if record.get("format") is None else _text(record["format"], where, "format"),
        filters=record.get("filters"),
    )
    return checked(case, where)


def checked(case: Case, where: str) -> Case:
    """The case. Raises InvalidRequest (`invalid_questions_file`) where there is nothing to check."""
    if not (case.answers or case.expected or case.unanswerable):
        raise _refused(where, "nothing is known of the answer")
    if case.format is not None and case.format not in FORMATS and not _is_pattern(case.format):
        raise _refused(where, f"the format is one of {', '.join(FORMATS)}, or /a regular expression/")
    return case


def _listed(record: Mapping[str, Any], plural: str, singular: str) -> list[Any]:
    value = record.get(plural, record.get(singular))
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _places(record: Mapping[str, Any]) -> list[Any]:
    return _listed(record, "expected", "") or ([record] if "source" in record else [])


def _expected(item: Any, where: str) -> Expected:
    if not isinstance(item, dict):
        raise _refused(where, "an expectation is an object with a source")
    quote = item.get("quote")
    source = _text(item.get("source"), where, "source")
    return Expected(source, None if quote is None else _text(quote, where, "quote"))


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _refused(where, f"the {name} is no text")
    return value.strip()


def _is_pattern(text: str) -> bool:
    if len(text) < 3 or not (text.startswith("/") and text.endswith("/")):
        return False
    try:
        regex.compile(text[1:-1])
    except regex.error:
        return False
    return True


def _refused(where: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {why}", code="invalid_questions_file")
