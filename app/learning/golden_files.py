"""Golden questions in files: `read` JSONL, CSV or a folder in BEIR layout, `write` JSONL."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from app.db.golden import Expected, GoldenQuestion
from app.errors import InvalidRequest
from retrievers.evaluation.beir import load_collection

Question = tuple[str, tuple[Expected, ...]]


def read(path: Path) -> list[Question]:
    """The questions of a file, in its order; a question that comes again expects the new things too.

    Raises InvalidRequest (`invalid_golden_file`) that names the line, EvaluationError for a folder that is
    not in BEIR layout, and OSError.
    """
    found: dict[str, dict[Expected, None]] = {}
    for question, expected in _entries(path):
        found.setdefault(question, {}).update(dict.fromkeys(expected))
    return [(question, tuple(expected)) for question, expected in found.items()]


def write(questions: Iterable[GoldenQuestion]) -> Iterator[str]:
    """One line of JSON per question, as `read` takes it."""
    for item in questions:
        expected = [
            {"source": one.source} | ({"quote": one.quote} if one.quote is not None else {})
            for one in item.expected
        ]
        yield json.dumps({"question": item.question, "expected": expected}, ensure_ascii=False)


def _entries(path: Path) -> Iterator[Question]:
    if path.is_dir():
        yield from _beir(path)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(path, "it is not UTF-8") from error
    yield from _csv(path, text) if path.suffix.lower() == ".csv" else _jsonl(path, text)


def _beir(folder: Path) -> Iterator[Question]:
    """Judged queries; a document's id is its source here."""
    collection = load_collection(folder)
    for query_id, grades in collection.qrels.items():
        relevant = tuple(Expected(document_id) for document_id, grade in grades.items() if grade > 0)
        if relevant:
            yield collection.queries[query_id], relevant


def _csv(path: Path, text: str) -> Iterator[Question]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not {"question", "source"} <= set(rows.fieldnames or ()):
            raise _refused(
                path, "its first line must name the columns question and source, and perhaps quote"
            )
        for row in rows:
            yield _question(row, [row], f"{path}, line {rows.line_num}")
    except (
        csv.Error
    ) as error:  # a cell of more than 128 KiB, most likely for want of a closing quotation mark
        where = f"{path}, line {rows.reader.line_num}"
        raise InvalidRequest(f"{where}: {error}", code="invalid_golden_file") from error


def _jsonl(path: Path, text: str) -> Iterator[Question]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidRequest(f"{where}: not JSON: {error}", code="invalid_golden_file") from error
        if not isinstance(record, dict):
            raise InvalidRequest(f"{where}: not a JSON object", code="invalid_golden_file")
        yield _question(record, record.get("expected", [record]), where)


def _question(record: dict[str, Any], expected: Any, where: str) -> Question:
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InvalidRequest(f"{where}: there is no question", code="invalid_golden_file")
    if not isinstance(expected, list) or not expected:
        raise InvalidRequest(f"{where}: nothing is expected", code="invalid_golden_file")
    return question.strip(), tuple(_expected(item, where) for item in expected)


def _expected(item: Any, where: str) -> Expected:
    source, quote = (item.get("source"), item.get("quote")) if isinstance(item, dict) else (None, None)
    if not isinstance(source, str) or not source:
        raise InvalidRequest(f"{where}: there is no source", code="invalid_golden_file")
    if quote is not None and not isinstance(quote, str):
        raise InvalidRequest(f"{where}: the quote is no text", code="invalid_golden_file")
    return Expected(source, quote if quote and quote.strip() else None)


def _refused(path: Path, why: str) -> InvalidRequest:
    return InvalidRequest(f"{path} cannot be read: {why}", code="invalid_golden_file")
