"""Collections in BEIR layout: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`, each plain or gzipped.

Thakur et al. 2021, https://arxiv.org/abs/2104.08663.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

from indexing.encoding.characters import without_surrogates
from retrievers.evaluation.errors import EvaluationError

Qrels = Mapping[str, Mapping[str, int]]
"""Query id → document id → grade; grades of zero and below are judged not relevant."""

SPLITS = ("test", "dev", "train")
"""The default split is the first of these that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeirDocument:
    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BeirCollection:
    """Queries and judgments in memory; documents are read from the file each time they are asked for."""

    name: str
    split: str
    folder: Path
    queries: Mapping[str, str]
    qrels: Qrels

    def documents(self) -> Iterator[BeirDocument]:
        """The documents in the order of the file; raises EvaluationError at a bad line."""
        return corpus_of(self.folder)

    def content_hash(self) -> str:
        """64 hexadecimal digits over the corpus as it is stored."""
        digest = sha256()
        with _open(_find(self.folder, "corpus.jsonl")) as lines:
            while part := lines.read(1 << 20):
                digest.update(part)
        return digest.hexdigest()


def corpus_of(folder: Path) -> Iterator[BeirDocument]:
    """The documents of a folder, which needs no questions; raises EvaluationError at a bad line."""
    path = _find(folder, "corpus.jsonl")
    for number, record in _records(path):
        title, text = record.get("title") or "", record.get("text") or ""
        if not isinstance(title, str) or not isinstance(text, str):
            raise EvaluationError(f"{path}, line {number}: title and text must be strings.")
        yield BeirDocument(id=_id(path, number, record), title=title, text=text)


def load_collection(folder: Path, split: str | None = None) -> BeirCollection:
    """The collection with the judgments of a split.

    Raises EvaluationError if a file is missing or malformed, the split is not there, nothing is judged, or a
    judged query has no text.
    """
    _find(folder, "corpus.jsonl")
    path, chosen = _split(folder, split)
    qrels = _qrels(path)
    queries_path = _find(folder, "queries.jsonl")
    queries = {
        _id(queries_path, number, record): _query_text(queries_path, number, record)
        for number, record in _records(queries_path)
    }
    unknown = sorted(qrels.keys() - queries.keys())
    if unknown:
        names = ", ".join(unknown[:5])
        raise EvaluationError(f"{path} judges queries that {queries_path.name} lacks: {names}.")
    return BeirCollection(
        name=folder.resolve().name, split=chosen, folder=folder, queries=queries, qrels=qrels
    )


def _split(folder: Path, wanted: str | None) -> tuple[Path, str]:
    paths = {
        path.name.removesuffix(".gz").removesuffix(".tsv"): path
        for path in sorted((folder / "qrels").glob("*.tsv*"))
        if path.name.endswith((".tsv", ".tsv.gz"))
    }
    if not paths:
        raise EvaluationError(f"{folder} has no judgments: there is no qrels/SPLIT.tsv.")
    if wanted is None:
        wanted = next((name for name in SPLITS if name in paths), next(iter(paths)))
    if wanted not in paths:
        raise EvaluationError(f"{folder} has no split {wanted!r}; there is {', '.join(paths)}.")
    return paths[wanted], wanted


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        fields = line.split("\t")
        if number == 1 and fields[-1] == "score":
            continue
        try:
            query_id, document_id, grade = fields
            qrels.setdefault(query_id, {})[document_id] = int(grade)
        except ValueError as exc:
            raise EvaluationError(
                f"{path}, line {number}: expected query id, document id and a whole number, parted by tabs."
            ) from exc
    if not qrels:
        raise EvaluationError(f"{path} has no judgments.")
    return qrels


def _query_text(path: Path, number: int, record: dict[str, Any]) -> str:
    text = record.get("text")
    if not isinstance(text, str):
        raise EvaluationError(f"{path}, line {number}: the query has no text.")
    if without_surrogates(text) != text:
        raise EvaluationError(f"{path}, line {number}: the query holds half of a surrogate pair.")
    return text


def _id(path: Path, number: int, record: dict[str, Any]) -> str:
    found = record.get("_id")
    if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
        raise EvaluationError(f"{path}, line {number}: there is no _id.")
    return str(found)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise EvaluationError(f"{path}, line {number}: not JSON ({exc}).") from exc
        if not isinstance(record, dict):
            raise EvaluationError(f"{path}, line {number}: not a JSON object.")
        yield number, record


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank."""
    number = 0
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as exc:
        raise EvaluationError(f"{path}, line {number}: not UTF-8 ({exc.reason}).") from exc
    except (OSError, EOFError, zlib.error) as exc:
        raise EvaluationError(f"{path}, after line {number}: {exc}") from exc


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise EvaluationError(f"{folder} has neither {name} nor {name}.gz.")
