"""What is learned from: queries with relevant texts and hard negatives from the fused ranking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.files import replace_file
from retrievers.evaluation.beir import BeirCollection
from retrievers.evaluation.collection_index import collection_chunks, document_names, open_index
from retrievers.hybrid import HybridRetriever
from retrievers.training.errors import TrainingError
from retrievers.types import Hit, Query

Say = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

FOUND = 100
"""Chunks of the fused ranking among which the relevant ones are looked for."""
HELD_OUT_OF = 10
"""One query in so many is measured on and not learned from."""
_QUERIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A query and its candidates, the best relevant one first, then by the fused score.

    `grades` are above 0 for what is relevant; `teacher` are the fused scores, higher is better.
    """

    collection: str
    query: str
    texts: tuple[str, ...]
    grades: tuple[int, ...]
    teacher: tuple[float, ...]

    @property
    def held_out(self) -> bool:
        """Decided by the query's words alone, so that it is the same in every run."""
        return int.from_bytes(blake2b(self.query.encode(), digest_size=4).digest(), "big") % HELD_OUT_OF == 0


def mine(
    collection: BeirCollection,
    encoder: Encoder,
    work_dir: Path,
    *,
    n_candidates: int,
    limit: int | None,
    say: Say,
) -> Iterator[Example]:
    """An example for each judged query that the fused ranking finds something relevant for.

    A relevant document stands with its best chunk; the negatives are the best chunks of other documents.
    Queries for which nothing relevant or nothing else is found teach nothing and are left out. `limit` takes
    a part of the queries that depends on their words alone.
    """
    spec = _chunker(encoder.max_tokens)
    snapshot, _ = open_index(collection, encoder, spec, work_dir, say)
    texts = {
        chunk.id: chunk.text for chunk in collection_chunks(collection, Chunker(spec, encoder.count_tokens))
    }
    names = document_names(collection)
    query_ids = sorted(collection.qrels, key=lambda key: _hash(collection.queries[key]))[:limit]
    with snapshot:
        retriever = HybridRetriever(snapshot, method="convex", candidate_k=FOUND)
        for start in range(0, len(query_ids), _QUERIES_AT_ONCE):
            some = query_ids[start : start + _QUERIES_AT_ONCE]
            words = [collection.queries[key] for key in some]
            vectors = encoder.encode_queries(words).vectors
            queries = [Query(text=text, vector=v) for text, v in zip(words, vectors, strict=True)]
            for key, query, hits in zip(some, queries, retriever.retrieve(queries, FOUND), strict=True):
                grade = partial(_grade, collection.qrels[key], names)
                chosen = _candidates(hits, grade, n_candidates)
                if chosen:
                    yield Example(
                        collection=collection.name,
                        query=query.text,
                        texts=tuple(texts[hit.chunk_id] for hit in chosen),
                        grades=tuple(map(grade, chosen)),
                        teacher=tuple(hit.score for hit in chosen),
                    )
            say("mine", start + len(some), len(query_ids))


def _chunker(window: int) -> ChunkerSpec:
    """The default chunker, with chunks that fit a window of so many tokens."""
    default = ChunkerSpec()
    most = min(default.max_tokens, window)
    return ChunkerSpec(
        max_tokens=most,
        overlap_tokens=min(default.overlap_tokens, most // 4),
        min_tokens=min(default.min_tokens, most // 4),
    )


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _grade(judged: Mapping[str, int], names: Mapping[int, str], hit: Hit) -> int:
    return max(judged.get(names[hit.document_id], 0), 0)


def _candidates(hits: Sequence[Hit], grade: Callable[[Hit], int], n: int) -> list[Hit]:
    """The best chunk of each document, relevant ones first; none unless there are both kinds."""
    best: dict[int, Hit] = {}
    for hit in hits:
        best.setdefault(hit.document_id, hit)
    relevant = [hit for hit in best.values() if grade(hit) > 0]
    others = [hit for hit in best.values() if grade(hit) == 0]
    if not relevant or not others:
        return []
    relevant = relevant[: max(n // 2, 1)]
    return [*relevant, *others[: n - len(relevant)]]


def save_examples(examples: Iterable[Example], path: Path) -> None:
    lines = (json.dumps(asdict(example), ensure_ascii=False) for example in examples)
    replace_file(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))


def load_examples(path: Path) -> list[Example]:
    """What `save_examples` wrote. Raises TrainingError where it cannot be read."""
    try:
        with path.open("rb") as lines:
            records = [json.loads(line) for line in lines]
        return [
            Example(
                collection=record["collection"],
                query=record["query"],
                texts=tuple(record["texts"]),
                grades=tuple(record["grades"]),
                teacher=tuple(record["teacher"]),
            )
            for record in records
        ]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise TrainingError(f"{path} cannot be read: {exc}") from exc


def parted(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Those to learn from, and those held out. Raises TrainingError where one of the two is empty."""
    held = [example for example in examples if example.held_out]
    learned = [example for example in examples if not example.held_out]
    if not learned or not held:
        raise TrainingError(
            f"{len(examples)} queries with something relevant among the best {FOUND} are too few to "
            "learn from: give more data, or let --synthetic make questions."
        )
    return learned, held


def without_doubtful(examples: Iterable[Example], share: float | None) -> list[Example]:
    """The examples without negatives whose fused score exceeds this share of the best relevant one's.

    What ranks as high as what is relevant is often relevant and was not judged: the positive-aware mining
    of Moreira et al. 2024, https://arxiv.org/abs/2407.15831 ("TopK-PercPos"). Examples that have no negative
    left are left out; None keeps everything.
    """
    if share is None:
        return list(examples)
    kept = []
    for example in examples:
        rows = list(zip(example.texts, example.grades, example.teacher, strict=True))
        most = share * max(score for _, grade, score in rows if grade > 0)
        sure = [row for row in rows if row[1] > 0 or row[2] <= most]
        texts, grades, teacher = zip(*sure, strict=True)
        if 0 in grades:
            kept.append(replace(example, texts=texts, grades=grades, teacher=teacher))
    return kept


def group(example: Example, n: int, rng: np.random.Generator) -> list[int]:
    """Places of n candidates to learn from: a relevant one first, then negatives drawn without repetition.

    The relevant one is drawn evenly, and so are the negatives. Fewer where there are fewer.
    """
    relevant = [place for place, grade in enumerate(example.grades) if grade > 0]
    others = [place for place, grade in enumerate(example.grades) if grade == 0]
    n_others = min(n - 1, len(others))
    drawn = rng.choice(len(others), size=n_others, replace=False)
    return [relevant[int(rng.integers(len(relevant)))], *(others[int(place)] for place in drawn)]


def first_texts(examples: Iterable[Example], n: int | None = None) -> list[str]:
    """Each text of the examples once, in the order of its first use."""
    return list(islice(dict.fromkeys(text for example in examples for text in example.texts), n))
