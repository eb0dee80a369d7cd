"""Transformations that search with further questions beside the query, and fuse what each of them finds.

- multi-query, RAG-Fusion (Rackauckas 2024, https://arxiv.org/abs/2402.03367): the query in other words;
- decomposition (Press et al. 2022, https://arxiv.org/abs/2210.03350): the questions it consists of;
- step-back (Zheng et al. 2023, https://arxiv.org/abs/2310.06117): the more general question behind it.

The rankings are fused by weighted reciprocal ranks, s(d) = Σ_i w_i / (k + rank_i(d)), Cormack et al. 2009.
The query itself always has the highest weight: a question that drifted cannot outvote it alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from indexing.prompt import Prompt
from indexing.replies import parse_queries
from retrievers.transformation.asking import Asking
from retrievers.transformation.base import Transformed, Variant, fallen_back
from retrievers.transformation.prompts import DECOMPOSE, MULTI_QUERY, STEP_BACK

N_PARAPHRASES = 3
N_SUB_QUESTIONS = 4

PARAPHRASE_WEIGHT = 0.5
SUB_QUESTION_WEIGHT = 0.7
STEP_BACK_WEIGHT = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriting:
    """Asks once for up to `n_queries` questions, each of which counts `weight` beside the query's 1.

    With `none_is_fine`, a model that only repeats the query has answered: there was nothing to take apart.
    """

    asking: Asking
    prompt: Prompt
    n_queries: int
    weight: float
    none_is_fine: bool = False

    @property
    def name(self) -> str:
        return self.prompt.name

    def transform(self, text: str) -> Transformed:
        wording = replace(self.prompt, system=self.prompt.system.replace("{n}", str(self.n_queries)))
        (said,) = self.asking.all([wording.messages(text)], temperature=0.0)
        written = said if isinstance(said, str) else ""
        queries = parse_queries(written, limit=self.n_queries, without=text)
        repeated = bool(parse_queries(written, limit=1))
        if not queries and not (repeated and self.none_is_fine):
            return fallen_back(self.name, text, [said])
        variants = (Variant(text=text), *(Variant(text=query, weight=self.weight) for query in queries))
        return Transformed(name=self.name, variants=variants)


def multi_query(asking: Asking, n_paraphrases: int = N_PARAPHRASES) -> Rewriting:
    return Rewriting(asking=asking, prompt=MULTI_QUERY, n_queries=n_paraphrases, weight=PARAPHRASE_WEIGHT)


def decompose(asking: Asking, n_questions: int = N_SUB_QUESTIONS) -> Rewriting:
    return Rewriting(
        asking=asking, prompt=DECOMPOSE, n_queries=n_questions, weight=SUB_QUESTION_WEIGHT, none_is_fine=True
    )


def step_back(asking: Asking) -> Rewriting:
    return Rewriting(asking=asking, prompt=STEP_BACK, n_queries=1, weight=STEP_BACK_WEIGHT)
