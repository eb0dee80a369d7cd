"""WebVTT and SubRip: the spoken words, one line for each change of speaker; times are left out."""

from __future__ import annotations

import html
import re

from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_TIMING = re.compile(r"\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_VOICE = re.compile(r"<v(?:\.[\w.-]+)?\s+([^>]*)>")
_TAG = re.compile(r"</?[\w.:]+[^>]*>|\{\\[^}]*\}")
_BLANK = re.compile(r"\n[ \t]*\n")
_MAX_PARAGRAPH_CHARS = 600


def load_subtitles(source: SourceFile) -> LoadedText:
    """The cues as running text; a paragraph ends with its speaker, or at a sentence end once it is long."""
    builder = TextBuilder(source.limits.text_chars)
    speaker = ""
    words: list[str] = []

    def flush() -> None:
        text = " ".join(words)
        builder.paragraph(f"{speaker}: {text}" if speaker and text else text)
        words.clear()

    last_cue = ""
    for name, cue in _cues(source.text()):
        n_chars = sum(map(len, words))
        if name != speaker or (n_chars > _MAX_PARAGRAPH_CHARS and words[-1].endswith((".", "?", "!", "…"))):
            flush()
            speaker = name
        if cue != last_cue:  # rolling captions say each line twice
            words.append(cue)
        last_cue = cue
    flush()
    return builder.finish()


def _cues(text: str) -> list[tuple[str, str]]:
    """Speaker (empty where none is named) and words of each cue."""
    cues = []
    for block in _BLANK.split(text):
        lines = block.strip().split("\n")
        timing = next((number for number, line in enumerate(lines) if _TIMING.match(line)), None)
        if timing is None:
            continue  # the file's header, a note, a style
        body = "\n".join(lines[timing + 1 :])
        voice = _VOICE.search(body)
        words = squeeze(html.unescape(_TAG.sub("", body)))
        if words:
            cues.append((squeeze(voice[1]) if voice else "", words))
    return cues
