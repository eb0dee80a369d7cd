"""From what a language model wrote to texts to search with. Whatever it wrote, this raises nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from indexing.prompt import printable

MAX_QUERY_CHARS = 400
"""A longer line is no question that was asked for."""

MAX_PASSAGE_CHARS = 2000
"""Beyond this an encoder's window is full anyhow."""

MAX_READ_CHARS = 20_000
"""Of a model that does not stop, so much is read."""

_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)(?:```|\Z)", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*+•–]|\(?\d{1,2}[.):]|\(?[a-hA-H]\)|[QqSs]\d{1,2}[.:)])\s+")
_LABEL = re.compile(
    r"^(?:passage|question|query|answer|paraphrase|sub-?question)(?:\s*\d{1,2})?\s*:\s*", re.I
)
_NOTHING = frozenset({"null", "none", "n/a"})
_PAIRS = (('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("«", "»"), ("‘", "’"), ("`", "`"))


def parse_queries(text: str, *, limit: int, without: str = "") -> tuple[str, ...]:
    """The first `limit` questions in the text, each once, none of them `without`; order as written.

    Takes one a line, numbered and bulleted lists, JSON lists and objects, each also in a Markdown block.
    Where some lines are marked as items of a list, the others are chatter; so is a line that ends in a colon.

    >>> parse_queries("Sure:\\n1. How long is **the Nile**?\\n2) How long is the Nile?", limit=3)
    ('How long is the Nile?',)
    """
    readable = text[:MAX_READ_CHARS]
    found: dict[str, str] = {}
    from_json = _from_json(readable)
    for candidate in _from_lines(_unfenced(readable)) if from_json is None else from_json:
        query = _cleaned(candidate)
        says_something = any(map(str.isalpha, query)) and query.casefold() not in _NOTHING
        if says_something and len(query) <= MAX_QUERY_CHARS:
            found.setdefault(_key(query), query)
    found.pop(_key(_cleaned(without)), None)
    return tuple(found.values())[:limit]


def parse_passage(text: str) -> str:
    """The passage in the text, on one line, cut at `MAX_PASSAGE_CHARS`; "" where there is none.

    >>> parse_passage("Passage: The Nile is\\n 6650 km long.")
    'The Nile is 6650 km long.'
    """
    readable = printable(_unfenced(text[:MAX_READ_CHARS])).replace("**", "")
    passage = _LABEL.sub("", " ".join(readable.split()))
    passage = _unquoted(passage)[:MAX_PASSAGE_CHARS].strip()
    return passage if any(map(str.isalnum, passage)) else ""


def _from_json(text: str) -> list[str] | None:
    """The strings of a JSON list or object in the text; None where there is none, or it is but a bracket."""
    decoder = json.JSONDecoder()
    unfenced = _unfenced(text).strip()
    for opening in "[", "{":
        start = unfenced.find(opening)
        if start < 0:
            continue
        try:
            value, end = decoder.raw_decode(unfenced[start:])
        except (ValueError, RecursionError):
            continue
        strings = list(_strings(value))
        if strings or end == len(unfenced):
            return strings
    return None


def _strings(value: Any) -> Iterable[str]:
    """The strings of a list, of its objects' first strings, or of the first list in an object."""
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), list(value.values()))
    if not isinstance(value, list):
        return
    for item in value:
        if isinstance(item, dict):
            item = next((inner for inner in item.values() if isinstance(inner, str)), None)
        if isinstance(item, str):
            yield item


def _from_lines(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if _BULLET.match(line)]
    return marked or [line for line in lines if not line.rstrip(" *_").endswith(":")]


def _unfenced(text: str) -> str:
    block = _FENCE.search(text)
    return block.group(1) if block else text


def _cleaned(text: str) -> str:
    """The text on one line, without list mark, label, emphasis and quotation marks around it."""
    line = " ".join(printable(text).lstrip("# >").split())
    line = _LABEL.sub("", _BULLET.sub("", line).replace("**", "").replace("__", ""))
    return _unquoted(line)


def _unquoted(text: str) -> str:
    line = text.strip(" \t")
    for opening, closing in _PAIRS:
        if len(line) > 1 and line.startswith(opening) and line.endswith(closing):
            return line[1:-1].strip()
    return line


def _key(query: str) -> str:
    return " ".join(query.casefold().split()).rstrip(" ?.!")
