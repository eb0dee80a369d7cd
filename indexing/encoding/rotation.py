"""Rotations of sentence vectors after which their first numbers tell the most.

A model that was not trained as a Matryoshka (Kusupati et al. 2022, https://arxiv.org/abs/2205.13147) spreads
what it knows over all dimensions, and a prefix of its vectors is worth little. Turned onto the principal axes
the same vectors begin with what differs most from text to text. An orthogonal matrix R leaves inner products
of whole vectors as they are: (R^T a) . (R^T b) = a . b.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import numpy as np

from indexing.encoding.base import Encoder
from indexing.encoding.identity import fingerprint
from indexing.errors import EncoderError
from indexing.types import Floats

NONE = "none"
PCA = "pca"
FITTED = "fitted:"
"""Begins a setting that holds the matrix itself: `fitted:ROWSxCOLUMNS:` and its halves in base 64."""
FIT_VERSION = 1
"""Raised when `fitting_texts` or `principal_axes` change."""
N_FITTING_TEXTS = 2048
WORDS_A_TEXT = 6


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A matrix of shape (n_in, n_out), float32, that sentence vectors are multiplied with from the right.

    Its columns are orthonormal if it was fitted here; a trained one may be any matrix of fewer columns.
    """

    matrix: Floats

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or not np.isfinite(self.matrix).all() or not self.matrix.any():
            raise EncoderError("A rotation is one matrix of finite numbers that are not all zero.")

    @property
    def identity(self) -> str:
        values = np.ascontiguousarray(self.matrix, dtype="<f4")
        return sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()


def rotation_named(name: str, encoder: Encoder, cache_dir: Path) -> Rotation:
    """The rotation of a setting: "pca", the matrix itself, an `.npz` file with one `matrix`, or the folder of
    a Dense module.

    "pca" is fitted once for an encoder on made-up texts, and kept in `cache_dir`. Raises EncoderError for
    what cannot be read or does not take vectors of the encoder.
    """
    if name == PCA:
        rotation = _fitted(encoder, cache_dir)
    else:
        rotation = from_words(name) if is_fitted(name) else _read(Path(name).expanduser())
    n_in = rotation.matrix.shape[0]
    if n_in != encoder.dim:
        raise EncoderError(
            f"The rotation {name[:80]} takes {n_in} dimensions; the encoder gives {encoder.dim}."
        )
    return rotation


def is_fitted(name: str) -> bool:
    """Whether a setting holds the matrix itself."""
    return name.startswith(FITTED)


def to_words(rotation: Rotation) -> str:
    """The setting that holds the matrix, in half precision: it goes wherever the settings go.

    >>> to_words(Rotation(np.array([[1], [0.5]], np.float32)))
    'fitted:2x1:ADwAOA=='
    """
    n_in, n_out = rotation.matrix.shape
    return f"{FITTED}{n_in}x{n_out}:{b64encode(rotation.matrix.astype('<f2').tobytes()).decode()}"


def from_words(name: str) -> Rotation:
    """What `to_words` wrote. Raises EncoderError for anything else."""
    try:
        shape, _, data = name.removeprefix(FITTED).partition(":")
        n_in, n_out = map(int, shape.split("x"))
        halves = np.frombuffer(b64decode(data, validate=True), dtype="<f2")
        return Rotation(halves.reshape(n_in, n_out).astype(np.float32))
    except ValueError as exc:
        raise EncoderError(f"{name[:40]}… is not a matrix in words: {exc}") from exc


def principal_axes(vectors: Floats) -> Floats:
    """The eigenvectors of X^T X for n vectors X, shape (dim, dim), the largest eigenvalue first.

    No other axes keep the inner products of these vectors as well in a prefix (Eckart and Young 1936). The
    mean is left in: without it prefixes rank as well, but their cosines are not those of whole vectors. Each
    axis points where its largest number is positive, so that the same vectors give the same axes.

    >>> principal_axes(np.array([[0, 3], [0, -3], [1, 0], [-1, 0]], np.float32)).round(6).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    doubles = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(doubles.T @ doubles)
    axes = axes[:, ::-1]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.ascontiguousarray(axes * np.sign(largest), dtype=np.float32)


def fitting_texts() -> list[str]:
    """Texts of words drawn evenly from the vocabulary of the default model, so that no topic weighs more.

    The same everywhere: the package of the default model is pinned and its tokenizer does not change.
    """
    from indexing.encoding.minilm_pack import installed_folder

    tokenizer = json.loads((installed_folder() / "tokenizer.json").read_text("utf-8"))
    words = sorted(w for w in tokenizer["model"]["vocab"] if w.isascii() and w.isalpha() and len(w) > 2)
    chosen = np.random.Generator(np.random.PCG64(FIT_VERSION)).integers(
        len(words), size=(N_FITTING_TEXTS, WORDS_A_TEXT)
    )
    return [" ".join(words[number] for number in row) for row in chosen.tolist()]


def save_rotation(rotation: Rotation, path: Path) -> None:
    """Writes the form that `encoder.rotation` reads, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{uuid4().hex}.part")
    try:
        with beside.open("xb") as file:
            np.savez(file, matrix=rotation.matrix.astype("<f4"))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _fitted(encoder: Encoder, cache_dir: Path) -> Rotation:
    key = fingerprint({"encoder": encoder.fingerprint, "fit": FIT_VERSION})
    path = cache_dir / f"rotation-{key}.npz"
    if path.is_file():
        return _read(path)
    rotation = Rotation(principal_axes(encoder.encode_documents(fitting_texts()).vectors))
    try:
        save_rotation(rotation, path)
    except OSError as exc:
        raise EncoderError(f"The rotation cannot be written to {cache_dir}: {exc}") from exc
    return rotation


def _read(path: Path) -> Rotation:
    try:
        return Rotation(_dense_matrix(path) if path.is_dir() else _npz_matrix(path))
    except (OSError, ValueError, KeyError) as exc:
        raise EncoderError(
            f"The rotation {path} cannot be read: {exc}. It must be `{NONE}`, `{PCA}`, an .npz file with one "
            f"array `matrix`, or the folder of a Dense module of sentence-transformers."
        ) from exc


def _npz_matrix(path: Path) -> Floats:
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays["matrix"], dtype=np.float32)


def _dense_matrix(folder: Path) -> Floats:
    """The weight of a Dense module without bias and activation, turned round: a module has (out, in)."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text("utf-8"))
    linear = not config.get("bias") and not config.get("use_residual")
    if not linear or not str(config.get("activation_function", "")).endswith("Identity"):
        raise ValueError("the Dense module must have no bias, no residual and the activation Identity")
    weights = load_file(folder / "model.safetensors")
    return np.ascontiguousarray(weights["linear.weight"].T, dtype=np.float32)
