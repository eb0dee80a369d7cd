"""HyDE: search with the vector of passages that a language model makes up (Gao et al. 2022, 2212.10496)."""

from __future__ import annotations

from dataclasses import dataclass

from indexing.errors import LanguageModelError
from indexing.replies import parse_passage
from retrievers.transformation.asking import Asking
from retrievers.transformation.base import Transformed, Variant, fallen_back
from retrievers.transformation.prompts import HYDE

N_PASSAGES = 4
"""The paper's code takes 8; each costs a generation, and they are averaged."""

TEMPERATURE = 0.7
"""As in the paper's code: passages that differ cover more of what an answer can look like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyde:
    """Asks for `n_passages` passages that answer the query; their vectors are averaged with the query's.

    Equation 8: v = (f(q) + Σ f(d_k)) / (N + 1), here of length 1 again. Lexical retrieval keeps the query's
    words. Where some passages fail or are empty, the others serve.
    """

    asking: Asking
    n_passages: int = N_PASSAGES
    temperature: float = TEMPERATURE

    @property
    def name(self) -> str:
        return HYDE.name

    def transform(self, text: str) -> Transformed:
        outcomes = self.asking.all([HYDE.messages(text)] * self.n_passages, temperature=self.temperature)
        written = [parse_passage(said) for said in outcomes if isinstance(said, str)]
        passages = tuple(dict.fromkeys(passage for passage in written if passage))
        if not passages:
            return fallen_back(self.name, text, outcomes)
        errors = [said for said in outcomes if isinstance(said, LanguageModelError)]
        note = None
        if errors:
            note = f"{self.name}: {len(errors)} of {self.n_passages} passages are missing ({errors[0].code})."
        variants = (Variant(text=text, passages=passages),)
        return Transformed(name=self.name, variants=variants, note=note)
