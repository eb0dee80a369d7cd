"""Which loader reads which format, and the one call that reads any file."""

from __future__ import annotations

import zlib
from importlib import import_module
from pathlib import Path
from typing import cast

from indexing.errors import LoadError
from indexing.loaders.detection import detect_format
from indexing.loaders.source import Loader, LoadLimits, SourceFile
from indexing.types import LoadedText

# Module and function of each format's loader, imported at first use: a child that reads only text files
# never pays for the parsers of the others.
LOADERS: dict[str, str] = {
    "txt": "plain:load_text",
    "code": "plain:load_code",
    "md": "markdown:load_markdown",
    "rst": "restructured_text:load_restructured_text",
    "asciidoc": "asciidoc:load_asciidoc",
    "org": "org:load_org",
    "tex": "latex:load_latex",
    "html": "html:load_html",
    "xml": "xml_document:load_xml",
    "epub": "epub:load_epub",
    "pdf": "pdf:load_pdf",
    "docx": "word:load_docx",
    "pptx": "slides:load_pptx",
    "xlsx": "sheets:load_xlsx",
    "odt": "open_document:load_open_document",
    "odp": "open_document:load_open_document",
    "ods": "open_document:load_open_document",
    "csv": "delimited:load_delimited",
    "tsv": "delimited:load_delimited",
    "json": "records:load_json",
    "jsonl": "records:load_jsonl",
    "ipynb": "notebook:load_notebook",
    "eml": "mail:load_mail",
    "msg": "outlook:load_msg",
    "rtf": "rtf:load_rtf",
    "vtt": "subtitles:load_subtitles",
    "srt": "subtitles:load_subtitles",
    "doc": "word_binary:load_doc",
    "ppt": "slides_binary:load_ppt",
    "xls": "sheets_binary:load_xls",
}


def loader_for(format_name: str) -> Loader:
    """The loader of a format that `detect_format` named."""
    module, _, function = LOADERS[format_name].partition(":")
    return cast(Loader, getattr(import_module(f"indexing.loaders.{module}"), function))


def load_file(path: Path, *, filename: str, limits: LoadLimits | None = None) -> LoadedText:
    """The canonical text of a file, read in this process; raises LoadError and nothing else.

    Size limits are kept; those of memory and time need a process of their own: see `LoaderPool`.
    """
    source = SourceFile(path=path, filename=filename, limits=limits or LoadLimits())
    try:
        size = path.stat().st_size
        if size > source.limits.decompressed_bytes:
            raise LoadError("too_large", f"the file has {size} bytes, over the limit")
        format_name = detect_format(path, filename)
    except OSError as exc:
        raise LoadError("corrupt_file", f"the file cannot be opened: {exc.strerror}") from exc
    loader = loader_for(format_name)
    try:
        return loader(source)
    except LoadError:
        raise
    except MemoryError as exc:
        raise LoadError("loader_memory", "reading the file takes more memory than allowed") from exc
    except (RecursionError, zlib.error) as exc:
        raise LoadError("corrupt_file", f"the file cannot be read: {type(exc).__name__}") from exc
    # Parsers answer hostile bytes with every exception there is. None of them may stop the reader of the
    # next file, and the file is what they have in common.
    except Exception as exc:
        raise LoadError("corrupt_file", f"the file cannot be read: {type(exc).__name__}: {exc}") from exc
