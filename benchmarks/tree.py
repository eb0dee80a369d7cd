"""What a tree of summaries does for retrieval and for extractive answers, and how long one takes to grow.

    python -m benchmarks.tree quality ../shared/data/covidqa-a --home /tmp/tree --json tree_covidqa.json
    python -m benchmarks.tree quality ../shared/data/financebench-a --documents 10 --home /tmp/tree-f
    python -m benchmarks.tree grow --chunks 10000

`quality` takes the documents in as the service does, files through their loaders, grows the tree, and asks
every question in each mode. A hit counts where it is a chunk of the right document that holds a gold answer
or stands on a gold page. An answer counts where a quoted span does. `grow` makes chunks up and measures
growing over them; their vectors are there already.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np

from app.answers.answering import answer
from app.db import collections
from app.documents import intake
from app.nodes import trees
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.settings import EncoderSettings, Settings, WorkerSettings
from app.worker import Worker
from indexing.tree.growing import FEW, Grower, Item, TreeSpec, collection_levels
from indexing.tree.summaries import ExtractiveSummariser
from indexing.types import Floats
from retrievers.types import Mode

MODES = ("bm25", "dense", "tree", "tree_traversal", "auto")
DEPTHS = (1, 5, 10, 20)
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`holds` says whether a span of a document's text, and the page it stands on, has the answer."""

    text: str
    source: str
    holds: Callable[[str, int | None], bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    quality = commands.add_parser("quality", help="recall and answers with and without a tree")
    quality.add_argument("folder", type=Path)
    quality.add_argument("--documents", type=int, help="take so many of the smallest documents")
    quality.add_argument("--questions", type=int, help="ask so many questions, evenly spread")
    quality.add_argument("--answers", action=argparse.BooleanOptionalAction, default=True)
    quality.add_argument("--home", type=Path, help="a data folder to keep; default: one that is thrown away")
    quality.add_argument("--threads", type=int)
    quality.add_argument("--modes", nargs="+", choices=get_args(Mode), default=MODES)
    quality.add_argument("--json", type=Path)
    quality.set_defaults(run=measure_quality)
    grow = commands.add_parser("grow", help="the time of growing a tree")
    grow.add_argument("--chunks", type=int, default=10_000)
    grow.add_argument("--json", type=Path)
    grow.set_defaults(run=measure_growth)
    arguments = parser.parse_args()
    found = arguments.run(arguments)
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def measure_quality(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(
            home=arguments.home or Path(scratch),
            encoder=EncoderSettings(n_threads=arguments.threads),
            worker=WorkerSettings(nice=0),
        )
        with open_services(settings) as services:
            sources = take_in(services, arguments.folder, arguments.documents)
            began = time.perf_counter()
            status = trees.build(services, collections.id_of("default"))
            seconds = time.perf_counter() - began
            questions = [item for item in questions_of(arguments.folder) if item.source in sources]
            if arguments.questions and arguments.questions < len(questions):
                places = np.linspace(0, len(questions) - 1, arguments.questions).astype(int)
                questions = [questions[place] for place in places.tolist()]
            return {
                "folder": arguments.folder.name,
                "n_documents": len(sources),
                "n_questions": len(questions),
                "tree": asdict(status) | {"seconds": round(seconds, 1)},
                "modes": {
                    mode: of_mode(services, mode, questions, arguments.answers) for mode in arguments.modes
                },
            }


def take_in(services: Services, folder: Path, limit: int | None) -> set[str]:
    """Ingests the documents that are not there yet; gives the sources, by document id of the collection."""
    records = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    files = [(record, content_of(folder, record)) for record in records]
    files.sort(key=lambda item: len(item[1]))
    sources = set()
    for record, content in files[:limit]:
        filename = Path(record.get("metadata", {}).get("file", f"{record['_id']}.txt")).name
        submission = intake.Submission(filename=filename, source=record["_id"], title=record["title"])
        intake.submit(services, submission, BytesIO(content))
        sources.add(record["_id"])
    Worker(services, name="benchmark").drain()
    return sources


def content_of(folder: Path, record: Mapping[str, Any]) -> bytes:
    if record["text"]:
        return str(record["text"]).encode()
    path = folder / str(record["metadata"]["file"])
    return path.read_bytes()


def questions_of(folder: Path) -> Iterator[Question]:
    for line in (folder / "queries.jsonl").open(encoding="utf-8"):
        record = json.loads(line)
        about = record["metadata"]
        if "evidence" in about:
            pages = {item["page_zero_based"] + 1 for item in about["evidence"]}
            holds = on_pages(pages)
        else:
            holds = with_answer([item["text"] for item in about["answers"]])
        yield Question(text=record["text"], source=about["doc_id"], holds=holds)


def on_pages(pages: set[int]) -> Callable[[str, int | None], bool]:
    return lambda _text, page: page in pages


def with_answer(answers: Sequence[str]) -> Callable[[str, int | None], bool]:
    wanted = [words(text) for text in answers]
    return lambda text, _page: any(f" {answer} " in f" {words(text)} " for answer in wanted if answer)


def words(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def of_mode(services: Services, mode: Mode, questions: Sequence[Question], answers: bool) -> dict[str, Any]:
    """Recall@k of chunks that hold the answer, its reciprocal rank, and answers that quote it."""
    ranks, quoted, abstained, seconds = [], [], [], []
    for question in questions:
        began = time.perf_counter()
        found = search(services, SearchRequest(query=question.text, mode=mode, top_k=max(DEPTHS)))
        seconds.append(time.perf_counter() - began)
        held = [
            passage.source == question.source and question.holds(passage.chunk.text, passage.chunk.page)
            for passage in found.passages
        ]
        ranks.append(held.index(True) + 1 if True in held else 0)
        if not answers:
            continue
        request = SearchRequest(query=question.text, mode=mode, top_k=services.settings.answer.top_k)
        given = answer(services, request, "extractive").answer
        abstained.append(given.abstained)
        quoted.append(
            any(
                item.source == question.source and question.holds(item.quote, item.page)
                for item in given.citations
            )
        )
    at = np.array(ranks)
    return {
        **{f"recall@{k}": round(float(((at > 0) & (at <= k)).mean()), 4) for k in DEPTHS},
        "mrr@20": round(float(np.where(at > 0, 1 / np.maximum(at, 1), 0).mean()), 4),
        **(
            {
                "answers that quote it": round(float(np.mean(quoted)), 4),
                "abstained": round(float(np.mean(abstained)), 4),
            }
            if answers
            else {}
        ),
        "search p50 ms": round(float(np.median(seconds)) * 1000, 1),
    }


def measure_growth(arguments: argparse.Namespace) -> dict[str, Any]:
    """Growing over made-up chunks of about 150 words on 200 topics, each a document of its own."""
    rng = np.random.default_rng(0)
    items = made_up(arguments.chunks, rng)
    count = lambda texts: [len(text.split()) for text in texts]  # noqa: E731
    directions = {item.text: item.vector for item in items}

    def encode(texts: Sequence[str]) -> Floats:
        rows = [directions.setdefault(text, unit(rng.standard_normal(384))) for text in texts]
        return np.stack(rows).astype(np.float32)

    grower = Grower(
        spec=TreeSpec(),
        summariser=ExtractiveSummariser(count_tokens=count),
        encode=encode,
        count_tokens=count,
    )
    layers, wall, cpu = [], time.perf_counter(), time.process_time()
    for level in collection_levels():
        if len(items) <= FEW:
            break
        items = grower.as_items(grower.layer(items, level))
        layers.append(len(items))
    return {
        "chunks": arguments.chunks,
        "layers": layers,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def made_up(n_chunks: int, rng: np.random.Generator) -> list[Item]:
    topics = [unit(rng.standard_normal(384)) for _ in range(200)]
    lexicon = [f"w{number}" for number in range(5000)]
    items = []
    for number in range(n_chunks):
        topic = int(rng.integers(len(topics)))
        chosen = rng.choice(300, 150) + 20 * topic
        parts = [" ".join(lexicon[place] for place in chosen[at : at + 15]) for at in range(0, 150, 15)]
        vector = unit(topics[topic] + 0.9 * unit(rng.standard_normal(384)))
        text = f"Chunk {number}. " + ". ".join(parts) + "."
        items.append(
            Item(id=number + 1, is_node=False, text=text, vector=vector.astype(np.float32), n_tokens=150)
        )
    return items


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


if __name__ == "__main__":
    main()
