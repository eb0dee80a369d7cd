"""What every encoder must do, run over each one that ships."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.fake import WordEncoder
from indexing.encoding.rotated_encoder import RotatedEncoder
from indexing.encoding.rotation import Rotation
from tests.unit.indexing.encoding.tiny_colbert import save_tiny_colbert
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

TEXTS = [
    "The red apple fell from the tree.",
    "a blue sky over the north river",
    "Stone",
    "Two of the five fires burned in the east, and one was new.",
    "Café crème, naïve coöperation: the water is green.",
    "bread and water " * 6,
]


class EncoderContract:
    """An implementation gives the `encoder` fixture."""

    special_tokens: ClassVar[bool] = False
    """Whether there are vectors of special tokens too, which stand for no characters."""

    def test_vectors_are_float32_of_length_one(self, encoder: Encoder) -> None:
        vectors = encoder.encode_documents(TEXTS).vectors
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(TEXTS), encoder.dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_results_are_in_the_order_of_the_texts(self, encoder: Encoder) -> None:
        forward = encoder.encode_documents(TEXTS, with_tokens=True)
        backward = encoder.encode_documents(TEXTS[::-1], with_tokens=True)
        np.testing.assert_allclose(forward.vectors, backward.vectors[::-1], atol=1e-3)
        assert forward.tokens is not None
        assert backward.tokens is not None
        for one, other in zip(forward.tokens, backward.tokens[::-1], strict=True):
            np.testing.assert_array_equal(one.offsets, other.offsets)

    def test_a_vector_does_not_depend_on_its_companions(self, encoder: Encoder) -> None:
        together = encoder.encode_documents([*TEXTS, "water " * 500]).vectors[: len(TEXTS)]
        alone = np.concatenate([encoder.encode_documents([text]).vectors for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=1e-3)

    def test_different_texts_have_different_vectors(self, encoder: Encoder) -> None:
        vectors = encoder.encode_documents(TEXTS).vectors
        similarity = vectors @ vectors.T
        assert (similarity[~np.eye(len(TEXTS), dtype=bool)] < 0.999).all()

    def test_token_vectors_come_with_the_same_vectors(self, encoder: Encoder) -> None:
        encoding = encoder.encode_documents(TEXTS, with_tokens=True)
        assert encoder.encode_documents(TEXTS).tokens is None
        np.testing.assert_allclose(encoding.vectors, encoder.encode_documents(TEXTS).vectors, atol=1e-5)
        assert encoding.tokens is not None
        for tokens in encoding.tokens:
            assert tokens.vectors.dtype == np.float32
            assert tokens.offsets.dtype == np.int32
            assert tokens.vectors.shape == (len(tokens.offsets), encoder.dim)
            np.testing.assert_allclose(np.linalg.norm(tokens.vectors, axis=1), 1, atol=1e-5)

    def test_offsets_cover_every_word(self, encoder: Encoder) -> None:
        for encode in (encoder.encode_documents, encoder.encode_queries):
            tokens = encode(TEXTS[:5], with_tokens=True).tokens
            assert tokens is not None
            for text, found in zip(TEXTS[:5], tokens, strict=True):
                covered = np.zeros(len(text), bool)
                for start, end in found.offsets.tolist():
                    covered[start:end] = True
                for word in re.finditer(r"\w+", text):
                    assert covered[slice(*word.span())].all(), word

    def test_offsets_begin_and_end_inside_a_word(self, encoder: Encoder) -> None:
        (tokens,) = encoder.encode_documents(["green water, stone"], with_tokens=True).tokens or ()
        for start, end in tokens.offsets.tolist():
            assert re.fullmatch(r"\w+|,", "green water, stone"[start:end])

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(text=st.text(max_size=40))
    def test_any_text_is_encoded(self, encoder: Encoder, text: str) -> None:
        encoding = encoder.encode_queries([text], with_tokens=True)
        np.testing.assert_allclose(np.linalg.norm(encoding.vectors), 1, atol=1e-5)
        (tokens,) = encoding.tokens or ()
        offsets = tokens.offsets[tokens.offsets[:, 1] > 0] if self.special_tokens else tokens.offsets
        starts, ends = offsets[:, 0], offsets[:, 1]
        assert (starts >= 0).all()
        assert (starts < ends).all()
        assert (ends <= len(text)).all()
        assert (np.diff(starts) >= 0).all()

    @pytest.mark.parametrize("text", ["", " \n\t", "\ud800"], ids=["empty", "blank", "lone surrogate"])
    def test_a_text_without_words_has_a_vector(self, encoder: Encoder, text: str) -> None:
        encoding = encoder.encode_documents([text, TEXTS[0]], with_tokens=True)
        np.testing.assert_allclose(np.linalg.norm(encoding.vectors, axis=1), 1, atol=1e-5)
        assert encoding.tokens is not None
        assert encoding.tokens[0].vectors.shape == (len(encoding.tokens[0].offsets), encoder.dim)

    def test_no_texts_give_no_vectors(self, encoder: Encoder) -> None:
        encoding = encoder.encode_documents([], with_tokens=True)
        assert encoding.vectors.shape == (0, encoder.dim)
        assert encoding.tokens == ()
        assert encoder.encode_queries([]).tokens is None
        assert encoder.count_tokens([]) == []

    def test_a_long_text_is_cut_at_the_window(self, encoder: Encoder) -> None:
        long = "water " * (encoder.max_tokens + 100)
        encoding = encoder.encode_documents([long, long + "stone"], with_tokens=True)
        assert encoding.tokens is not None
        assert len(encoding.tokens[0].offsets) == encoder.max_tokens - 2
        np.testing.assert_allclose(encoding.vectors[0], encoding.vectors[1], atol=1e-5)

    def test_tokens_are_counted_beyond_the_window(self, encoder: Encoder) -> None:
        n_words = encoder.max_tokens + 100
        assert encoder.count_tokens(["", "water", "water " * n_words]) == [0, 1, n_words]

    def test_counted_tokens_are_those_that_get_vectors(self, encoder: Encoder) -> None:
        short = TEXTS[:3]
        tokens = encoder.encode_documents(short, with_tokens=True).tokens
        assert tokens is not None
        assert encoder.count_tokens(short) == [len(found.offsets) for found in tokens]

    def test_counting_leaves_the_window_as_it_is(self, encoder: Encoder) -> None:
        long = "water " * (encoder.max_tokens + 100)
        before = encoder.encode_documents([long]).vectors
        encoder.count_tokens([long])
        np.testing.assert_array_equal(encoder.encode_documents([long]).vectors, before)

    def test_progress_rises_to_the_number_of_texts(self, encoder: Encoder) -> None:
        calls: list[tuple[int, int]] = []
        encoder.encode_documents(TEXTS, progress=lambda done, total: calls.append((done, total)))
        assert calls == sorted(calls)
        assert calls[-1] == (len(TEXTS), len(TEXTS))
        assert {total for _, total in calls} == {len(TEXTS)}

    def test_a_failing_progress_stops_the_work(self, encoder: Encoder) -> None:
        def cancel(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            encoder.encode_documents(TEXTS, progress=cancel)
        assert encoder.encode_documents(TEXTS[:1]).vectors.shape == (1, encoder.dim)

    def test_threads_get_what_one_caller_gets(self, encoder: Encoder) -> None:
        expected = encoder.encode_documents(TEXTS).vectors
        with ThreadPoolExecutor(4) as pool:
            counts = pool.map(encoder.count_tokens, [TEXTS] * 8)
            results = list(pool.map(lambda _: encoder.encode_documents(TEXTS, with_tokens=True), range(8)))
        assert len({tuple(count) for count in counts}) == 1
        for result in results:
            np.testing.assert_allclose(result.vectors, expected, atol=1e-5)

    def test_the_fingerprint_is_16_hexadecimal_digits(self, encoder: Encoder) -> None:
        assert re.fullmatch(r"[0-9a-f]{16}", encoder.fingerprint)
        assert encoder.name


class TestDefaultEncoder(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
        return load_encoder(EncoderSpec(), tmp_path_factory.mktemp("models"))


class TestSentenceTransformerEncoder(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
        folder = save_tiny_model(
            tmp_path_factory.mktemp("tiny"), prompts={"query": "the one: ", "document": ""}
        )
        return load_encoder(EncoderSpec(model=str(folder), device="cpu"), Path("unused"))


class TestMultiVectorEncoder(EncoderContract):
    """Its token vectors are those that it scores with: special tokens are among them, punctuation is not."""

    special_tokens = True

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
        folder = save_tiny_colbert(
            tmp_path_factory.mktemp("colbert"), document_length=40, query_expansion=None
        )
        return load_encoder(EncoderSpec(model=str(folder), device="cpu"), Path("unused"))

    def test_a_long_text_is_cut_at_the_window(self, encoder: Encoder) -> None:
        long = "water " * (encoder.max_tokens + 100)
        encoding = encoder.encode_documents([long, long + "stone"], with_tokens=True)
        assert encoding.tokens is not None
        assert len(encoding.tokens[0].offsets) == encoder.max_tokens
        np.testing.assert_allclose(encoding.vectors[0], encoding.vectors[1], atol=1e-5)

    def test_offsets_begin_and_end_inside_a_word(self, encoder: Encoder) -> None:
        (tokens,) = encoder.encode_documents(["green water, stone"], with_tokens=True).tokens or ()
        found = ["green water, stone"[start:end] for start, end in tokens.offsets.tolist()]
        assert all(re.fullmatch(r"\w*", text) for text in found)
        assert "".join(found) == "greenwaterstone"

    def test_counted_tokens_are_those_that_get_vectors(self, encoder: Encoder) -> None:
        texts = ["a blue sky over the north river", "Stone"]  # without punctuation
        tokens = encoder.encode_documents(texts, with_tokens=True).tokens
        assert tokens is not None
        standing = [int((found.offsets[:, 1] > found.offsets[:, 0]).sum()) for found in tokens]
        assert encoder.count_tokens(texts) == standing


class TestWordEncoder(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> Encoder:
        return WordEncoder()


class TestRotatedEncoder(EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> Encoder:
        matrix, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((64, 64)))
        return RotatedEncoder(WordEncoder(), Rotation(matrix.astype(np.float32)), dim=48)
