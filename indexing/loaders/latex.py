"""LaTeX to readable text: comments and layout commands go, sections, lists, tables and formulas stay."""

from __future__ import annotations

import re
from unicodedata import normalize

from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*?(?:\n[ \t]*|\Z)")
_LEVELS = {
    name: level
    for level, name in enumerate(
        ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph")
    )
}
_SECTION = re.compile(r"\\(" + "|".join(_LEVELS) + r")\b")
_VERBATIM = ("verbatim", "Verbatim", "lstlisting", "minted", "alltt")
_MATH = (
    "equation", "align", "gather", "multline", "eqnarray", "displaymath", "math", "flalign", "split", "cases",
)  # fmt: skip
_TABULAR = ("tabular", "tabularx", "tabulary", "longtable", "array", "supertabular")
_ARGUMENT = r"\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}"
_HEADING = _ARGUMENT.replace("(", "(?P<heading>", 1)
_TOKEN = re.compile(
    r"\\begin\{(?P<code>" + "|".join(_VERBATIM) + r")\*?\}(?P<codebody>.*?)\\end\{(?P=code)\*?\}"
    r"|\\begin\{(?P<math>" + "|".join(_MATH) + r")\*?\}(?P<mathbody>.*?)\\end\{(?P=math)\*?\}"
    r"|(?:\$\$(?P<display>.*?)\$\$|\\\[(?P<bracket>.*?)\\\])"
    r"|\\begin\{(?P<table>" + "|".join(_TABULAR) + r")\*?\}(?P<tablebody>.*?)\\end\{(?P=table)\*?\}"
    r"|\\(?P<section>" + "|".join(_LEVELS) + r")\*?\s*(?:\[[^\]]*\])?\s*" + _HEADING +
    r"|\\begin\{(?P<list>itemize|enumerate|description)\}|\\end\{(?P<listend>itemize|enumerate|description)\}"
    r"|(?P<item>\\item\b\s*(?:\[(?P<label>[^\]]*)\])?)"
    r"|\\begin\{abstract\}(?P<abstract>)"
    r"|(?P<blank>\n[ \t]*\n\s*)",
    re.S,
)  # fmt: skip
_INLINE_MATH = re.compile(r"(?<!\\)\$(?:\\.|[^$\\])+\$|\\\((.+?)\\\)", re.S)
_DROPPED = re.compile(
    r"\\(?:label|vspace|hspace|includegraphics|bibliographystyle|bibliography|usepackage|input|include|pagestyle|"
    r"thispagestyle|setlength|addtolength|setcounter|newcommand|renewcommand|def|hypersetup|graphicspath|"
    r"index|fontsize|selectlanguage|rule|vskip|hskip)\*?(?:\[[^\]]*\])*(?:" + _ARGUMENT + r")*"
)
_REFERENCE = re.compile(
    r"\\(?:cite\w*|ref|eqref|pageref|autoref|cref|Cref|nocite)\*?(?:\[[^\]]*\])*\{([^{}]*)\}"
)
_HREF = re.compile(r"\\href\s*\{[^{}]*\}\s*" + _ARGUMENT)
_BEGIN_END = re.compile(r"\\(?:begin|end)\{[^{}]*\}(?:\[[^\]]*\])?(?:\{[^{}]*\})?")
_COMMAND = re.compile(r"\\[A-Za-z@]+\*?(?:\[[^\]]*\])?\s?")
_ACCENT = re.compile(
    r"\\(?:([`'^\"~=.])\s*\{?\\?([A-Za-z])\}?|([uvHcdbr])(?:\s*\{\\?([A-Za-z])\}|\s+([A-Za-z])\b))"
)
_ACCENTS = dict(
    zip(
        "`'^\"~=.uvHcdbr",
        "\u0300\u0301\u0302\u0308\u0303\u0304\u0307\u0306\u030c\u030b\u0327\u0323\u0331\u030a",
        strict=True,
    )
)
# fmt: off
_LETTERS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "aa": "å", "AA": "Å", "l": "ł",
    "L": "Ł", "i": "ı", "ldots": "…", "dots": "…", "textbackslash": "\\", "LaTeX": "LaTeX", "TeX": "TeX",
    "S": "§", "P": "¶", "copyright": "©", "pounds": "£", "quad": " ", "qquad": " ", "textendash": "–",
    "textemdash": "—", "textasciitilde": "~", "euro": "€", "textdegree": "°",
}
# fmt: on
_LETTER = re.compile(
    r"\\(" + "|".join(sorted(_LETTERS, key=len, reverse=True)) + r")(?![A-Za-z])(?:\{\}|\s)?"
)


def load_latex(source: SourceFile) -> LoadedText:
    """LaTeX without its preamble; title and author go to the metadata. Nothing is included."""
    text = _COMMENT.sub(r"\1", source.text())
    body = text.partition(r"\begin{document}")[2] or text
    body = body.partition(r"\end{document}")[0]
    title, author = _argument("title", text), _argument("author", text)
    builder = TextBuilder(source.limits.text_chars)
    if title:
        builder.heading(title, 1)
    body = re.sub(r"\\(?:title|author|date|thanks)\s*(?:\[[^\]]*\])?" + _ARGUMENT, "", body)
    top = min((_LEVELS[found[1]] for found in _SECTION.finditer(body)), default=0)
    _write(builder, body, (2 if title else 1) - top)
    return builder.finish(title=title or None, metadata={"author": author} if author else None)


def _argument(command: str, text: str) -> str:
    found = re.search(r"\\" + command + r"\s*(?:\[[^\]]*\])?" + _ARGUMENT, text)
    return squeeze(_plain(found[1])) if found else ""


def _write(builder: TextBuilder, body: str, shift: int) -> None:
    """Append a document's body; `shift` turns the depth of a section into the level of its heading."""
    position = 0
    depth = 0
    item = ""
    for token in _TOKEN.finditer(body):
        _paragraph(builder, item + squeeze(_plain(body[position : token.start()])), depth)
        position = token.end()
        item = ""
        match token.lastgroup:
            case "codebody":
                builder.code(token["codebody"])
            case "mathbody" | "display" | "bracket":
                formula = token["mathbody"] or token["display"] or token["bracket"] or ""
                builder.paragraph(squeeze(_DROPPED.sub("", formula)))
            case "tablebody":
                builder.table(_rows(token["tablebody"]))
            case "heading":
                builder.heading(_plain(token["heading"]), _LEVELS[token["section"]] + shift)
            case "abstract":
                builder.heading("Abstract", 2)
            case "list":
                depth += 1
            case "listend":
                depth = max(0, depth - 1)
            case "item" | "label":
                label = squeeze(_plain(token["label"] or ""))
                item = "  " * max(0, depth - 1) + (f"- {label} " if label else "- ")
    _paragraph(builder, item + squeeze(_plain(body[position:])), depth)


def _paragraph(builder: TextBuilder, text: str, depth: int) -> None:
    if text.strip(" -"):
        (builder.item if depth and text.lstrip().startswith("- ") else builder.paragraph)(text)


def _rows(body: str) -> list[list[str]]:
    """Cells of a tabular environment, whose column specification comes first."""
    body = re.sub(r"^\s*(?:\[[^\]]*\])?\s*(?:" + _ARGUMENT + r"\s*){1,2}", "", body)
    body = re.sub(
        r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfoot|cline\{[^}]*\}|cmidrule\S*\{[^}]*\})",
        "",
        body,
    )
    rows = re.split(r"\\\\(?:\[[^\]]*\])?", body)
    return [[_plain(cell) for cell in re.split(r"(?<!\\)&", row)] for row in rows]


def _plain(text: str) -> str:
    """Words of LaTeX source; formulas keep their source."""
    parts: list[str] = []
    position = 0
    for formula in _INLINE_MATH.finditer(text):
        parts.append(_words(text[position : formula.start()]))
        parts.append(formula[0])
        position = formula.end()
    parts.append(_words(text[position:]))
    return "".join(parts)


def _accented(found: re.Match[str]) -> str:
    letter = found[2] or found[4] or found[5]
    return normalize("NFC", letter + _ACCENTS[found[1] or found[3]])


def _words(text: str) -> str:
    text = _DROPPED.sub("", text)
    text = _REFERENCE.sub(r"[\1]", text)
    text = _HREF.sub(r"\1", text)
    text = _BEGIN_END.sub(" ", text)
    text = _ACCENT.sub(_accented, text)
    text = _LETTER.sub(lambda found: _LETTERS[found[1]], text)
    text = re.sub(r"\\\\(?:\[[^\]]*\])?", " ", text)
    text = _COMMAND.sub("", text)
    text = re.sub(r"\\([&%$#_{}])", r"\1", re.sub(r"(?<!\\)[{}]", "", text))
    text = text.replace("~", " ").replace("\\,", " ").replace("\\ ", " ")
    return text.replace("---", "—").replace("--", "–").replace("``", "“").replace("''", "”")
