"""Encoding and exact search on a GPU beside the same code on the CPU, with the results compared.

    python -m benchmarks.gpu [--rows 1000000 10000000] [--json FILE]

Prints tokens per second of the default model in bf16 (`encoder.device=cuda:bf16`), and for each number of
vectors the time until they are on the device, queries per second and how many of the ten best agree with
the CPU's, also with a filter. Where FAISS has GPU support its flat index is measured too, and whether it
honours a selector. Without a CUDA device it says so, in the JSON too, and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
import torch

from benchmarks.machine import describe
from indexing.device_scan import DeviceMatrix
from indexing.encoding.minilm_pack import installed_folder
from indexing.encoding.rotation import fitting_texts
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder
from indexing.types import Floats
from indexing.vectors import Halves, nearest_among

faiss: Any = _faiss

DIM = 384
TOP_K = 10
N_QUERIES = 200
N_COMPARED = 10
N_TEXTS = {"cpu": 64, "cuda:bf16": 8192}


def encoding(device: str) -> dict[str, float]:
    """Tokens a second over texts of about 200 tokens, after a first pass that does not count."""
    encoder = SentenceTransformerEncoder.load(str(installed_folder()), device=device)
    words = fitting_texts()
    texts = [" ".join(words[(25 * n) % 2000 : (25 * n) % 2000 + 25]) for n in range(N_TEXTS[device])]
    n_tokens = sum(min(n + 2, encoder.max_tokens) for n in encoder.count_tokens(texts))
    encoder.encode_documents(texts[:64])
    began = time.perf_counter()
    encoder.encode_documents(texts)
    return {"tokens_per_second": n_tokens / (time.perf_counter() - began)}


def made_up(n_rows: int) -> Halves:
    """Vectors of length 1 in half precision, in slices so that nothing larger than the result is held."""
    rng = np.random.default_rng(1)
    halves = np.empty((n_rows, DIM), np.float16)
    for start in range(0, n_rows, 100_000):
        part = rng.standard_normal((min(100_000, n_rows - start), DIM), np.float32)
        halves[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return halves


def searching(n_rows: int) -> dict[str, Any]:
    halves = made_up(n_rows)
    queries = made_up(N_QUERIES + 1)[1:].astype(np.float32)
    mask = np.random.default_rng(2).random(n_rows) < 0.1
    began = time.perf_counter()
    matrix = DeviceMatrix(halves, torch.device("cuda"))
    torch.cuda.synchronize()
    result: dict[str, Any] = {"rows": n_rows, "upload_seconds": time.perf_counter() - began}
    allowed = np.flatnonzero(mask)
    for name, chosen in (("all", None), ("a tenth allowed", mask)):
        n_allowed = n_rows if chosen is None else len(allowed)
        rows = [matrix.nearest(query, TOP_K, chosen, n_allowed) for query in queries[:N_COMPARED]]
        places = np.arange(n_rows) if chosen is None else allowed
        expected = [places[nearest_among(q, halves[places], TOP_K)] for q in queries[:N_COMPARED]]
        agree = [len(np.intersect1d(a, b)) / TOP_K for a, b in zip(rows, expected, strict=True)]
        result[name] = {
            "queries_per_second": _rate(matrix, queries, chosen, n_allowed),
            "agreement_with_cpu": float(np.mean(agree)),
        }
    began = time.perf_counter()
    nearest_among(queries[0], halves, TOP_K)
    result["cpu_queries_per_second"] = 1 / (time.perf_counter() - began)
    del matrix
    result["faiss"] = _faiss_flat(halves, queries, allowed)
    return result


def _rate(matrix: DeviceMatrix, queries: Floats, mask: Any, n_allowed: int) -> float:
    began = time.perf_counter()
    for query in queries:
        matrix.nearest(query, TOP_K, mask, n_allowed)
    return len(queries) / (time.perf_counter() - began)


def _faiss_flat(halves: Halves, queries: Floats, allowed: np.ndarray) -> dict[str, Any] | None:
    """FAISS on the GPU, one batch of all queries; None where this build of FAISS has no GPU support."""
    if not hasattr(faiss, "StandardGpuResources"):
        return None
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), DIM, config)
    began = time.perf_counter()
    for start in range(0, len(halves), 1_000_000):
        index.add(halves[start : start + 1_000_000].astype(np.float32))
    build_seconds = time.perf_counter() - began
    index.search(queries, TOP_K)
    began = time.perf_counter()
    index.search(queries, TOP_K)
    seconds = time.perf_counter() - began
    parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(allowed))
    _, rows = index.search(queries, TOP_K, params=parameters)
    return {
        "build_seconds": build_seconds,
        "queries_per_second_in_a_batch": len(queries) / seconds,
        "honours_a_selector": bool(np.isin(rows, allowed).all()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"machine": describe(), "gpu": None}
    if torch.cuda.is_available():
        report["gpu"] = torch.cuda.get_device_name(0)
        measured: dict[str, Callable[[], Any]] = {
            "encoding": lambda: {device: encoding(device) for device in N_TEXTS},
            "search": lambda: [searching(n_rows) for n_rows in arguments.rows],
        }
        report |= {name: measure() for name, measure in measured.items()}
    else:
        report["reason"] = "PyTorch finds no CUDA device: nothing was measured."
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
