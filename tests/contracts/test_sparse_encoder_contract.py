"""What every sparse encoder must do, run over each one that ships and over both kinds of checkpoints."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexing.encoding.sparse import SparseEncoder, SparseSpec, load_sparse_encoder
from indexing.encoding.sparse_fake import WordSparseEncoder
from indexing.errors import EncoderError
from indexing.sparse_codes import SparseVector
from tests.unit.indexing.encoding.tiny_sparse_model import save_tiny_inference_free, save_tiny_splade

TEXTS = ["The red apple fell from the tree.", "a blue sky over the north river", "Stone", "water " * 60]


def as_dict(vector: SparseVector) -> dict[int, float]:
    return dict(zip(vector.terms.tolist(), vector.weights.tolist(), strict=True))


class SparseEncoderContract:
    """An implementation gives the `encoder` fixture."""

    def test_terms_rise_and_weights_are_above_zero(self, encoder: SparseEncoder) -> None:
        for vector in [*encoder.encode_documents(TEXTS), encoder.encode_query(TEXTS[0])]:
            assert (vector.terms.dtype, vector.weights.dtype) == (np.uint32, np.float32)
            assert len(vector.terms) == len(vector.weights) > 0
            assert (np.diff(vector.terms.astype(np.int64)) > 0).all()
            assert (vector.weights > 0).all()
            assert vector.terms.max() < encoder.n_terms

    def test_results_are_in_the_order_of_the_texts(self, encoder: SparseEncoder) -> None:
        together = encoder.encode_documents(TEXTS)
        for text, vector in zip(TEXTS, together, strict=True):
            (alone,) = encoder.encode_documents([text])
            assert as_dict(alone) == pytest.approx(as_dict(vector), abs=1e-4)

    @pytest.mark.parametrize("text", ["", "\ud800 red", " \n"], ids=["empty", "lone surrogate", "blank"])
    def test_any_text_is_encoded(self, encoder: SparseEncoder, text: str) -> None:
        assert len(encoder.encode_documents([text, TEXTS[0]])) == 2
        assert (encoder.encode_query(text).weights > 0).all()

    def test_no_texts_give_no_vectors(self, encoder: SparseEncoder) -> None:
        assert encoder.encode_documents([]) == []

    def test_every_term_has_a_name(self, encoder: SparseEncoder) -> None:
        vector = encoder.encode_query("red apple")
        names = [encoder.term(int(number)) for number in vector.terms]
        assert all(names)
        assert len(set(names)) == len(names)

    def test_progress_ends_at_the_number_of_texts(self, encoder: SparseEncoder) -> None:
        calls: list[tuple[int, int]] = []
        encoder.encode_documents(TEXTS * 10, progress=lambda done, total: calls.append((done, total)))
        assert calls == sorted(calls)
        assert calls[-1] == (40, 40)

    def test_threads_get_what_one_caller_gets(self, encoder: SparseEncoder) -> None:
        expected = as_dict(encoder.encode_query(TEXTS[1]))
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: as_dict(encoder.encode_query(TEXTS[1])), range(8)):
                assert found == pytest.approx(expected, abs=1e-5)

    def test_the_fingerprint_is_16_hexadecimal_digits(self, encoder: SparseEncoder) -> None:
        assert re.fullmatch(r"[0-9a-f]{16}", encoder.fingerprint)
        assert encoder.name


class TestWords(SparseEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> SparseEncoder:
        return WordSparseEncoder()


class CheckpointContract(SparseEncoderContract):
    """Subclasses give the `folder` fixture too, and say how often a query goes through the network."""

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, folder: Path) -> SparseEncoder:
        return load_sparse_encoder(SparseSpec(model=str(folder), device="cpu"))

    def test_vectors_are_those_of_the_library(self, encoder: SparseEncoder, folder: Path) -> None:
        from sentence_transformers import SparseEncoder as Library

        model = Library(str(folder), device="cpu")
        documents = model.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
        query = model.encode_query(TEXTS[0], convert_to_sparse_tensor=False).numpy()
        found = [*encoder.encode_documents(TEXTS), encoder.encode_query(TEXTS[0])]
        for row, vector in zip([*documents, query], found, strict=True):
            dense = np.zeros(len(row), np.float32)
            dense[vector.terms] = vector.weights
            np.testing.assert_allclose(dense, row, atol=1e-4)

    def test_max_terms_keeps_those_of_most_weight(self, encoder: SparseEncoder, folder: Path) -> None:
        few = load_sparse_encoder(SparseSpec(model=str(folder), device="cpu", max_terms=5))
        (whole,), (cut,) = (one.encode_documents(TEXTS[:1]) for one in (encoder, few))
        assert len(cut) == 5
        assert cut.weights.min() >= np.sort(whole.weights)[-5] - 1e-6
        assert as_dict(few.encode_query(TEXTS[0])) == pytest.approx(as_dict(encoder.encode_query(TEXTS[0])))
        assert few.fingerprint != encoder.fingerprint

    def test_loading_again_gives_the_same_fingerprint(self, encoder: SparseEncoder, folder: Path) -> None:
        encoder.encode_documents(TEXTS)
        again = load_sparse_encoder(SparseSpec(model=str(folder), device="cpu"))
        assert again.fingerprint == encoder.fingerprint


class TestSplade(CheckpointContract):
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return save_tiny_splade(tmp_path_factory.mktemp("splade"))


class TestInferenceFree(CheckpointContract):
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return save_tiny_inference_free(tmp_path_factory.mktemp("free"))

    def test_a_query_has_the_terms_of_its_words_alone(self, encoder: SparseEncoder) -> None:
        vector = encoder.encode_query("red apple red")
        assert {encoder.term(int(number)) for number in vector.terms} == {"red", "apple"}

    def test_other_weights_have_another_fingerprint(self, encoder: SparseEncoder, tmp_path: Path) -> None:
        other = save_tiny_inference_free(tmp_path, seed=2)
        spec = SparseSpec(model=str(other), device="cpu")
        assert load_sparse_encoder(spec).fingerprint != encoder.fingerprint


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_sparse_encoder(SparseSpec(model=str(tmp_path / "nowhere"), device="cpu"))
