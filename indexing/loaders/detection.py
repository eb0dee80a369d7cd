"""Which format a file has: by its first bytes, then by its name; content wins where the two disagree."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import olefile

from indexing.errors import LoadError
from indexing.loaders.decoding import decode

FORMATS_BY_EXTENSION: dict[str, str] = {
    extension: format_name
    for format_name, extensions in {
        "txt": "txt text log nfo",
        "md": "md markdown mdown mkd mdx rmd qmd",
        "rst": "rst rest",
        "html": "html htm xhtml shtml",
        "pdf": "pdf",
        "docx": "docx docm dotx dotm",
        "pptx": "pptx pptm ppsx ppsm potx",
        "xlsx": "xlsx xlsm xltx xltm",
        "csv": "csv",
        "tsv": "tsv tab",
        "json": "json geojson",
        "ipynb": "ipynb",
        "jsonl": "jsonl ndjson jsonlines",
        "eml": "eml mht mhtml",
        "msg": "msg",
        "epub": "epub",
        "odt": "odt ott fodt",
        "odp": "odp otp",
        "ods": "ods ots",
        "rtf": "rtf",
        "xml": "xml nxml jats rss atom dita docbook dbk tei",
        "vtt": "vtt",
        "srt": "srt",
        "tex": "tex latex ltx",
        "asciidoc": "adoc asciidoc asc",
        "org": "org",
        "doc": "doc dot",
        "ppt": "ppt pps",
        "xls": "xls xlt",
    }.items()
    for extension in extensions.split()
}

CODE_LANGUAGES: dict[str, str] = {
    extension: language
    for language, extensions in {
        "ada": "ada adb ads",
        "assembly": "asm s",
        "awk": "awk",
        "bash": "sh bash zsh ksh fish",
        "batch": "bat cmd",
        "c": "c h",
        "c++": "cc cpp cxx hh hpp hxx ino",
        "c#": "cs",
        "clojure": "clj cljs cljc edn",
        "cmake": "cmake",
        "cobol": "cob cbl",
        "css": "css scss sass less",
        "cuda": "cu cuh",
        "d": "d",
        "dart": "dart",
        "diff": "diff patch",
        "elixir": "ex exs",
        "elm": "elm",
        "erlang": "erl hrl",
        "f#": "fs fsi fsx",
        "fortran": "f f77 f90 f95 f03 for",
        "go": "go",
        "graphql": "graphql gql",
        "groovy": "groovy gradle",
        "haskell": "hs lhs",
        "hcl": "tf tfvars hcl",
        "ini": "ini cfg conf properties env toml",
        "java": "java",
        "javascript": "js mjs cjs jsx",
        "julia": "jl",
        "kotlin": "kt kts",
        "lisp": "lisp lsp cl el scm rkt",
        "lua": "lua",
        "makefile": "mk mak",
        "matlab": "m",
        "nim": "nim",
        "nix": "nix",
        "objective-c": "mm",
        "ocaml": "ml mli",
        "pascal": "pas pp",
        "perl": "pl pm",
        "php": "php",
        "powershell": "ps1 psm1 psd1",
        "prolog": "pro",
        "protobuf": "proto",
        "python": "py pyi pyw pyx pxd",
        "r": "r",
        "ruby": "rb rake gemspec",
        "rust": "rs",
        "scala": "scala sc sbt",
        "solidity": "sol",
        "sql": "sql ddl",
        "swift": "swift",
        "tcl": "tcl",
        "typescript": "ts tsx mts cts",
        "vala": "vala",
        "verilog": "v sv svh",
        "vhdl": "vhd vhdl",
        "visual basic": "vb vbs bas",
        "vue": "vue svelte",
        "yaml": "yaml yml",
        "zig": "zig",
    }.items()
    for extension in extensions.split()
}

FORMATS_BY_EXTENSION |= dict.fromkeys(CODE_LANGUAGES, "code")

_CODE_NAMES = {"makefile", "dockerfile", "containerfile", "jenkinsfile", "vagrantfile", "gemfile", "rakefile"}
_CONTAINERS = frozenset({"docx", "pptx", "xlsx", "epub", "odt", "odp", "ods"})
_BINARY = _CONTAINERS | {"pdf", "msg", "doc", "ppt", "xls"}
_HEAD_BYTES = 8192

_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FOREIGN = {  # files that are not documents with text, by their first bytes
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF87a": "a GIF image",
    b"GIF89a": "a GIF image",
    b"RIFF": "a RIFF media file",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\x7fELF": "a program",
    b"MZ\x90\x00": "a program",
    b"\xca\xfe\xba\xbe": "a program",
    b"SQLite format 3\x00": "an SQLite database",
    b"OggS": "an Ogg media file",
    b"ID3": "an MP3 file",
    b"fLaC": "a FLAC file",
    b"PAR1": "a Parquet file",
    b"\x00\x00\x01\x00": "an icon",
}

_OPEN_DOCUMENT = {
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.text-template": "odt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.presentation-template": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.spreadsheet-template": "ods",
}
_OFFICE_FOLDERS = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
_OLE_STREAMS = {  # the order matters: an embedded document does not make a message of a letter
    "EncryptedPackage": "encrypted",
    "__properties_version1.0": "msg",
    "WordDocument": "doc",
    "PowerPoint Document": "ppt",
    "Workbook": "xls",
    "Book": "xls",
}

_HTML = re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S)
_XML = re.compile(r"\s*<(\?xml|!DOCTYPE\s+\w|[A-Za-z_][\w.-]*(:[\w.-]+)?\s+xmlns)")
_MAIL = re.compile(
    r"(From |(Return-Path|Received|From|To|Subject|Date|Message-ID|MIME-Version|Delivered-To|X-[\w-]+):)",
    re.I,
)
_HEADER_LINE = re.compile(r"[A-Za-z][\w-]*:|[ \t]")


def detect_format(path: Path, filename: str) -> str:
    """The name of the format a loader is registered for; LoadError unsupported_format where there is none.

    Also raises empty_file (no bytes) and encrypted_file (an office document in an encrypted envelope).
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise LoadError("empty_file", "the file has no bytes")
    named = _format_by_name(filename)
    return _binary_format(path, head, named) or _text_format(head, named)


def _format_by_name(filename: str) -> str | None:
    name = Path(filename).name.lower()
    if name in _CODE_NAMES:
        return "code"
    return FORMATS_BY_EXTENSION.get(Path(name).suffix.lstrip("."))


def _binary_format(path: Path, head: bytes, named: str | None) -> str | None:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise LoadError("unsupported_format", f"the file is {what}")
    if head.startswith(_OLE_MAGIC):
        return _ole_format(path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_format(path, named)
    if head.lstrip().startswith(b"{\\rtf"):
        return "rtf"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"%PDF-") or (
        named == "pdf" and b"%PDF-" in head[:1024]
    ):
        return "pdf"
    return None


def _zip_format(path: Path, named: str | None) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            mimetype = (
                archive.open("mimetype").read(100).decode("latin-1").strip() if "mimetype" in names else ""
            )
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as exc:
        if named in _CONTAINERS:
            return named
        raise LoadError("unsupported_format", "the file is a zip archive that cannot be opened") from exc
    if mimetype in _OPEN_DOCUMENT:
        return _OPEN_DOCUMENT[mimetype]
    found = [name for folder, name in _OFFICE_FOLDERS.items() if any(n.startswith(folder) for n in names)]
    if named in found or (named in _CONTAINERS and not found):
        return named
    if len(found) == 1:
        return found[0]
    raise LoadError("unsupported_format", "the file is a zip archive without a document known here")


def _ole_format(path: Path) -> str:
    try:
        with olefile.OleFileIO(path) as container:
            found = next((name for stream, name in _OLE_STREAMS.items() if container.exists(stream)), None)
    except (OSError, ValueError, IndexError, TypeError) as exc:
        raise LoadError("corrupt_file", f"not a whole OLE container: {exc}") from exc
    if found == "encrypted":
        raise LoadError("encrypted_file", "the document is protected with a password")
    if found is None:
        raise LoadError("unsupported_format", "the file is an OLE container without a document known here")
    return found


def _text_format(head: bytes, named: str | None) -> str:
    try:
        text = decode(head)
    except LoadError as exc:
        if named in _BINARY:
            return named  # damaged, not foreign: its loader says what is wrong
        raise LoadError("unsupported_format", "the file holds binary data of no format known here") from exc
    text = text.lstrip("\ufeff \t\r\n")
    if named is not None and named not in _BINARY:
        return "html" if named == "xml" and _HTML.match(text) else named
    return _sniffed_text(text) or named or "txt"


def _sniffed_text(text: str) -> str | None:
    """The format of text whose name says nothing or is wrong."""
    if _HTML.match(text):
        return "html"
    if _XML.match(text):
        return "xml"
    if text.startswith("WEBVTT"):
        return "vtt"
    if _MAIL.match(text) and _looks_like_mail(text):
        return "eml"
    if text.startswith(("{", "[")) and text.rstrip().endswith(("}", "]")):
        return "json"
    return None


def _looks_like_mail(text: str) -> bool:
    """At least three header lines and nothing else before the first blank line."""
    header = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0].splitlines()
    return len(header) >= 3 and all(_HEADER_LINE.match(line) for line in header[1:])
