"""CSV and TSV: rows as lines of a table, or as labelled records where the rows are long."""

from __future__ import annotations

import csv
import io
from itertools import zip_longest

from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_SAMPLE_CHARS = 1 << 16
_DELIMITERS = ",;\t|"
_LONG_ROW_CHARS = 300
_MAX_RECORD_COLUMNS = 100


def load_delimited(source: SourceFile) -> LoadedText:
    """A delimited file. Rows of over 300 characters become records, `column: value` on each line."""
    text = source.text()
    delimiter = "\t" if source.extension in ("tsv", "tab") else _delimiter(text[:_SAMPLE_CHARS])
    csv.field_size_limit(source.limits.text_chars)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    builder = TextBuilder(source.limits.text_chars)
    n_chars = sum(len(cell) for row in rows[1:] for cell in row)
    if len(rows) > 1 and n_chars > _LONG_ROW_CHARS * (len(rows) - 1) and len(rows[0]) <= _MAX_RECORD_COLUMNS:
        write_records(builder, rows[0], rows[1:])
    else:
        builder.table(rows)
    return builder.finish()


def write_records(builder: TextBuilder, names: list[str], rows: list[list[str]]) -> None:
    """Append each row as a record block with its columns' names."""
    for row in rows:
        cells = zip_longest(names[: max(len(names), len(row))], row, fillvalue="")
        pairs = [(squeeze(name), squeeze(value)) for name, value in cells]
        with builder.block("record"):
            builder.paragraph(
                "\n".join(f"{name}: {value}" if name else value for name, value in pairs if value)
            )


def _delimiter(sample: str) -> str:
    """The delimiter that parts most of the first lines into the same number of cells, else a comma."""
    lines = sample.split("\n")[:20]
    best, best_score = ",", 0.0
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        most = max(set(widths), key=widths.count, default=1)
        score = (most > 1) * (widths.count(most) / max(1, len(widths)) + min(most, 50) / 1000)
        if score > best_score:
            best, best_score = delimiter, score
    return best
