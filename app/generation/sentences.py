"""Sentence spans of a text."""

from __future__ import annotations

import re

import sentencex


def split_sentences(text: str, start: int = 0) -> list[tuple[int, int]]:
    """Spans of the sentences without the space around them, moved by `start`.

    >>> split_sentences("Dr. Lee ran. He fell.")
    [(0, 12), (13, 21)]
    """
    spans = []
    for paragraph in re.finditer(r"[^\n](?:[^\n]|\n(?![ \t]*\n))*", text):
        at = paragraph.start()
        for segment in sentencex.segment("en", paragraph.group()):
            stripped = segment.strip()
            if stripped:
                begin = text.index(stripped, at)
                at = begin + len(stripped)
                spans.append((start + begin, start + at))
    return spans
