"""A collection as data for training: its documents, and its golden questions if it has any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import collections, documents, golden, loaded_texts
from app.errors import InvalidRequest
from app.ids import format_id

if TYPE_CHECKING:
    from app.services import Services


def export_collection(services: Services, name: str, folder: Path) -> int:
    """Writes a collection in BEIR layout and gives the number of its questions, which may be none.

    A question is judged by the documents it expects; what it expects and is not there is left out. Raises
    CollectionNotFound, and InvalidRequest (`nothing_to_train_on`) where no document has a text.
    """
    with services.read() as session:
        collection_id = collections.get_by_name(session, name).id
        by_source: dict[str, str] = {}
        records = []
        for document_id in documents.ids_of_collection(session, collection_id):
            kept = loaded_texts.newest_text(session, document_id, lock=False)
            if kept is None:
                continue
            key = format_id(document_id)
            by_source[documents.get(session, document_id).source] = key
            records.append({"_id": key, "title": kept.title or "", "text": kept.loaded.text[:]})
        questions = golden.list_all(session, collection_id)
    if not records:
        raise InvalidRequest(f"No document of {name} has a text.", code="nothing_to_train_on")
    judged = {
        question: [by_source[item.source] for item in question.expected if item.source in by_source]
        for question in questions
    }
    judged = {question: found for question, found in judged.items() if found}
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    _write(folder / "corpus.jsonl", [json.dumps(record, ensure_ascii=False) for record in records])
    asked = [{"_id": format_id(question.id), "text": question.question} for question in judged]
    _write(folder / "queries.jsonl", [json.dumps(query, ensure_ascii=False) for query in asked])
    _write(
        folder / "qrels" / "train.tsv",
        ["query-id\tcorpus-id\tscore"]
        + [
            f"{format_id(question.id)}\t{key}\t1"
            for question, found in judged.items()
            for key in dict.fromkeys(found)
        ],
    )
    return len(judged)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogatepass", newline="\n")
