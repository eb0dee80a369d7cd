"""The words of a text as they stand there, with their places: what an exact phrase is compared by."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Everything but white space and signs. What the analyzer's tokenizer keeps together must lie within one word:
# texts with the same words then have the same terms, so that postings lead to every exact match.
_WORD = re.compile(r"[^\s\x00-/:-@\[-`{-©«-±´¶-¸»¿×÷‐-⁯₠-⃏←-⑟─-❵\u3000-\u3004\u3008-\u3020\u3030！-／：-＠]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Characters `[start, end)` of a text; `form` is the word in lower case, with its diacritics."""

    form: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """The words, in order.

    >>> [(word.form, word.start, word.end) for word in words_of("Don't touch Café_2!")]
    [('don', 0, 3), ('t', 4, 5), ('touch', 6, 11), ('café', 12, 16), ('2', 17, 18)]
    """
    return [
        Word(form=_form(found[0]), start=found.start(), end=found.end()) for found in _WORD.finditer(text)
    ]


def forms_of(text: str) -> list[str]:
    """The forms of the words, in order.

    >>> forms_of("Warm the POT!")
    ['warm', 'the', 'pot']
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    return [_form(word) for word in _WORD.findall(text)]


def _form(word: str) -> str:
    # Letter by letter, as the analyzer does: the form of a letter does not depend on its neighbours.
    return "".join(map(str.lower, word))
