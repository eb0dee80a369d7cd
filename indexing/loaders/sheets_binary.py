"""Excel workbooks of the binary format (.xls)."""

from __future__ import annotations

import io
from datetime import datetime

import xlrd
from xlrd.sheet import Cell

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.sheets import Row, number_text, write_regions
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_EPOCHS = {0: datetime(1899, 12, 30), 1: datetime(1904, 1, 1)}


def load_xls(source: SourceFile) -> LoadedText:
    """A workbook; encrypted_file where it is protected with a password."""
    try:
        book = xlrd.open_workbook(file_contents=source.data(), logfile=io.StringIO())
    except xlrd.XLRDError as exc:
        if "encrypted" in str(exc).lower():
            raise LoadError("encrypted_file", "the workbook is protected with a password") from exc
        raise LoadError("corrupt_file", f"not a readable workbook: {exc}") from exc
    builder = TextBuilder(source.limits.text_chars)
    for number, sheet in enumerate(book.sheets(), start=1):
        rows: list[Row] = []
        for position in range(sheet.nrows):
            cells = ((column, _text(cell, book.datemode)) for column, cell in enumerate(sheet.row(position)))
            rows.append({column: text for column, text in cells if text})
        builder.page(number)
        if any(rows):
            builder.heading(sheet.name, 1)
            write_regions(builder, rows)
    return builder.finish(metadata={"author": book.user_name} if book.user_name else None)


def _text(cell: Cell, datemode: int) -> str:
    match cell.ctype:
        case xlrd.XL_CELL_TEXT:
            return squeeze(cell.value)
        case xlrd.XL_CELL_NUMBER:
            return number_text(str(cell.value), "", _EPOCHS[datemode])
        case xlrd.XL_CELL_DATE:
            return number_text(str(cell.value), "date", _EPOCHS[datemode])
        case xlrd.XL_CELL_BOOLEAN:
            return "TRUE" if cell.value else "FALSE"
        case xlrd.XL_CELL_ERROR:
            return str(xlrd.error_text_from_code.get(cell.value, ""))
    return ""
