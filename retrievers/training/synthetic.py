"""Questions made from a collection without a model, for collections that have none."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np

from indexing.analysis import build_analyzer
from indexing.files import replace_file
from indexing.sentences import split_sentences
from retrievers.evaluation.beir import BeirDocument
from retrievers.training.errors import TrainingError

SHORTEST_SENTENCE = 5
"""Words of a sentence that can stand for a question."""
N_KEYWORDS = (2, 4)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    query: str
    title: str
    text: str


def write_synthetic(documents: Iterable[BeirDocument], folder: Path, *, n: int, seed: int) -> int:
    """Writes a collection in BEIR layout with up to n questions, one for a document, and says how many.

    In turn a question is a sentence that is taken out of its document (inverse cloze; Lee et al. 2019,
    https://arxiv.org/abs/1906.00300, section 5), a title that is taken off it, or two to four of its most
    distinctive words, which stay. All documents are in the corpus, so that the others are negatives. Raises
    TrainingError where no document gives a question.
    """
    kept = [document for document in documents if document.text.strip()]
    rarity = _Rarity([document.text for document in kept])
    rng = np.random.default_rng(seed)
    makers = (_sentence, _title, rarity.keywords)
    queries: list[dict[str, str]] = []
    qrels = ["query-id\tcorpus-id\tscore"]
    corpus = {document.id: document for document in kept}
    for place in rng.permutation(len(kept)).tolist():
        if len(queries) == n:
            break
        document = kept[place]
        turn = len(queries)
        tries = (makers[(turn + shift) % len(makers)](document, rng) for shift in range(len(makers)))
        made = next((made for made in tries if made is not None), None)
        if made is None:
            continue
        key = f"s{turn}"
        corpus[document.id] = BeirDocument(id=document.id, title=made.title, text=made.text)
        queries.append({"_id": key, "text": made.query})
        qrels.append(f"{key}\t{document.id}\t1")
    if not queries:
        raise TrainingError("No document has a title, a second sentence or words to make a question from.")
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    records = ({"_id": d.id, "title": d.title, "text": d.text} for d in corpus.values())
    _write(folder / "corpus.jsonl", (json.dumps(record, ensure_ascii=False) for record in records))
    _write(folder / "queries.jsonl", (json.dumps(query, ensure_ascii=False) for query in queries))
    _write(folder / "qrels" / "train.tsv", qrels)
    return len(queries)


def _write(path: Path, lines: Iterable[str]) -> None:
    replace_file(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))


def _sentence(document: BeirDocument, rng: np.random.Generator) -> _Made | None:
    spans = split_sentences(document.text)
    long = [span for span in spans if len(_WORD.findall(document.text[slice(*span)])) >= SHORTEST_SENTENCE]
    if len(spans) < 2 or not long:
        return None
    start, end = long[int(rng.integers(len(long)))]
    rest = f"{document.text[:start].rstrip()} {document.text[end:].lstrip()}".strip()
    return _Made(query=" ".join(document.text[start:end].split()), title=document.title, text=rest)


def _title(document: BeirDocument, rng: np.random.Generator) -> _Made | None:  # noqa: ARG001
    title = " ".join(document.title.split())
    return _Made(query=title, title="", text=document.text) if _WORD.search(title) else None


class _Rarity:
    """How rare each stem is among texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._analyzer = build_analyzer()
        counts = Counter(stem for text in texts for stem in set(self._analyzer.analyze(text)))
        self._idf = {stem: log(len(texts) / count) for stem, count in counts.items() if count > 1}

    def keywords(self, document: BeirDocument, rng: np.random.Generator) -> _Made | None:
        """Some of the document's words with the highest tf · idf; words that only it has would be no task."""
        words: dict[str, str] = {}
        weights: defaultdict[str, float] = defaultdict(float)
        for word in _WORD.findall(document.text):
            for stem in self._analyzer.analyze(word):
                words.setdefault(stem, word.lower())
                weights[stem] += self._idf.get(stem, 0.0)
        n = int(rng.integers(N_KEYWORDS[0], N_KEYWORDS[1] + 1))
        ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
        best = [words[stem] for stem, weight in ranked[:n] if weight > 0]
        if len(best) < n:
            return None
        return _Made(query=" ".join(best), title=document.title, text=document.text)
