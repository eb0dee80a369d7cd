"""Sentence spans of a text, by rules: fast, exact to the character, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_SENTENCE_CHARS = 600
"""A longer run with no sentence end in it is a table, code or a list: its lines are taken instead."""

# Line ends at which running text stops: before a blank line, a Markdown heading, a list item, a table row, a
# fence or a rule; and behind a heading, a table row, a fence or a rule.
_STOP = re.compile(
    r"""
    \n(?=[ \t]*+(?:\n | \#{1,6}[ \t] | [-*+•‣◦–][ \t] | \(?(?:\d{1,3}|[a-z]|[ivx]{2,5})[.)][ \t] | \|
      | ``` | ~~~ | [=~^*_-]{3,}[ \t]*+(?:\n|$) ))
    | \n(?=[^\n]*[ ]\|[ ])
    | (?:(?<=\n)|^)[ \t]*+(?:\#{1,6}[ \t][^\n]* | \|[^\n]* | ```[^\n]* | [^\n]*?[ ]\|[ ][^\n]*
      | [=~^*_-]{3,}[ \t]*+)(?:\n|$)
    """,
    re.VERBOSE,
)
# The look-behind and the possessive `++` keep a page of dots from being tried from each of its dots.
_END = re.compile(r"(?<![.!?…])([.!?…]++)(['\"”’»)\]]*+)(?=\s)|[。！？｡]+[”’」』）]*")
_OPENING = "\"'“‘«([{"
_NOT_OPENING = re.compile(rf"[^{re.escape(_OPENING)}]")
_NON_SPACE = re.compile(r"\S")
_NEXT_WORD = re.compile(r"[^\W\d_]+")
_LINE = re.compile(r"\S[^\n]*")
_LIST_MARK = re.compile(r"\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{2,5})")
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]{1,2}|[Pp]h\.?[Dd]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A capital or a figure follows these within the sentence.
_NEVER_LAST = _words(
    """
    dr mr mrs ms mx prof messrs mlle mme gen col maj capt cmdr lt sgt sen rep gov rev hon pres supt
    e.g i.e eg ie cf vs viz ca approx resp incl excl esp fig figs eq eqs eqn eqns ref refs thm lemma
    prop def vol vols chap para paras fn ibid op cit
    """
)
# Abbreviations where a figure follows, words elsewhere.
_BEFORE_FIGURE = _words(
    """
    no nos p pp art sec sect ch pt app tab bd nr pos ver v ed col ex cl par ss s c r
    """
)
# These may end a sentence; they do when what follows looks like the beginning of one.
_MAYBE_LAST = _words(
    """
    etc al inc ltd co corp bros llc plc jr sr esq st ave blvd rd mt ft dept univ assoc est min max
    avg no nos sec temp ext tel misc ed eds trans rev repr jan feb mar apr jun jul aug sep sept oct
    nov dec mon tue tues wed thu thur thurs fri sat sun a.m p.m am pm b.c a.d u.s u.k u.n e.u
    """
)
_STARTERS = _words(
    """
    the this that these those there it its he she they we you i his her their our your my in on at
    by for from with without as after before during since until when while where why how what who
    which if although though because but and or however moreover furthermore therefore thus hence
    nevertheless instead also then now today such some many most few several all both each every
    another other one two no not an a to of so yet here is are was were do does did can could may
    might should would will let see note
    """
)


def split_sentences(text: str, start: int = 0) -> list[tuple[int, int]]:
    """Spans `[start, end)` of the sentences, without the white space around them, in order, moved by `start`.

    Every other character than white space lies in exactly one span. None crosses a blank line, a heading, a
    list item or a table row.

    >>> split_sentences("Dr. Lee ran 3.5 km (see Fig. 2). He fell.")
    [(0, 32), (33, 41)]
    """
    spans: list[tuple[int, int]] = []
    for first, last in _paragraphs(text):
        for begin, end in _sentences(text, first, last):
            if end - begin > LONGEST_SENTENCE_CHARS and "\n" in text[begin:end]:
                spans.extend(_lines(text, begin, end))
            else:
                spans.append((begin, end))
    return [(begin + start, end + start) for begin, end in spans] if start else spans


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of running text, white space at their ends included."""
    first = 0
    for stop in _STOP.finditer(text):
        # A line that stands alone is cut off on both sides, a line end only once.
        for last in (stop.start(), stop.end()):
            if last > first:
                yield first, last
                first = last
    if first < len(text):
        yield first, len(text)


def _sentences(text: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    found = _NON_SPACE.search(text, first, last)
    if found is None:
        return
    first = begin = found.start()
    while last > begin and text[last - 1].isspace():
        last -= 1
    for mark in _END.finditer(text, begin, last):
        following = _NON_SPACE.search(text, mark.end(), last)
        if following is None:
            break
        if _ends_sentence(text, first, last, mark, following.start()):
            yield begin, mark.end()
            begin = following.start()
    if begin < last:
        yield begin, last


def _ends_sentence(text: str, first: int, last: int, mark: re.Match[str], following: int) -> bool:
    signs = mark[1]
    if signs is None:  # a full stop of Chinese or Japanese
        return True
    if mark.start() == first:
        return False
    opened = _NOT_OPENING.search(text, following, last)
    at = opened.start() if opened is not None else following
    lower = text[at].islower()
    spaced = text[mark.start() - 1].isspace()
    if signs != ".":
        return (spaced and "." not in signs and "…" not in signs) or not lower
    if spaced:
        return True
    if mark[2]:
        return not lower
    word = text[max(first, mark.start() - 32) : mark.start()].split()[-1].lstrip(_OPENING)
    if mark.start() - len(word) <= first + 1 and _LIST_MARK.fullmatch(word):
        return False
    return _word_ends_sentence(word, text, at, lower=lower)


def _word_ends_sentence(word: str, text: str, at: int, *, lower: bool) -> bool:
    """Whether a full stop behind `word` ends the sentence when the next one would begin at `at`."""
    known = word.lower()
    if known in _NEVER_LAST or (known in _BEFORE_FIGURE and text[at].isdigit()):
        return False
    abbreviated = known in _MAYBE_LAST or (len(word) == 1 and word.isalpha()) or _DOTTED.fullmatch(word)
    if lower:
        # "approx. five", but also the collections that know no capitals.
        return not abbreviated and (len(word) > 3 or word.isdigit())
    if not abbreviated or not text[at].isalpha():
        return not (abbreviated and text[at].isdigit() and known not in ("etc", "al"))
    next_word = _NEXT_WORD.match(text, at)
    if known == "no" or next_word is None:
        return True
    return next_word[0].lower() in _STARTERS


def _lines(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    for line in _LINE.finditer(text, begin, end):
        yield line.start(), line.start() + len(line[0].rstrip())
