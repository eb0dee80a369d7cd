"""An encoder that says what was asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from indexing.encoding.base import Progress
from indexing.encoding.fake import WordEncoder
from indexing.types import Encoding


class CountingEncoder(WordEncoder):
    """Counts the texts that it encodes; `hook` is called before documents are encoded."""

    def __init__(self, *, dim: int = 64, max_tokens: int = 256) -> None:
        super().__init__(dim=dim, max_tokens=max_tokens)
        self.n_documents = 0
        self.n_queries = 0
        self.hook: Callable[[], None] = lambda: None

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        self.hook()
        self.n_documents += len(texts)
        return super().encode_documents(texts, with_tokens=with_tokens, progress=progress)

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding:
        self.n_queries += len(texts)
        return super().encode_documents(texts, with_tokens=with_tokens)
