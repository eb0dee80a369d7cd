"""What the styles and the numbering of a Word document say about a paragraph."""

from __future__ import annotations

import re

from lxml import etree

from indexing.loaders.xml_tree import attribute, children, descendants, first

_HEADING_NAME = re.compile(r"heading\s*(\d)$", re.I)
_MAX_BASES = 20
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"),
          (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


class Styles:
    """Paragraph styles by id, with what each takes from the styles it is based on."""

    def __init__(self, root: etree._Element | None) -> None:
        self._styles = {} if root is None else {attribute(s, "styleId"): s for s in children(root, "style")}

    def of(self, paragraph: etree._Element) -> str | None:
        """The id of the paragraph's style."""
        style = first(paragraph, "pPr", "pStyle")
        return None if style is None else attribute(style, "val")

    def heading_level(self, paragraph: etree._Element) -> int | None:
        """The level of a heading, from 1; None for running text."""
        outline = first(paragraph, "pPr", "outlineLvl")
        if outline is not None:
            return _outline_level(outline)
        style = self.of(paragraph)
        if self.is_title(style):
            return 1
        for name, element in self._chain(style):
            if found := _HEADING_NAME.match(name):
                return max(1, int(found[1]))
            outline = first(element, "pPr", "outlineLvl")
            if outline is not None:
                return _outline_level(outline)
        found = _HEADING_NAME.match(style or "") if style not in self._styles else None
        return max(1, int(found[1])) if found else None

    def is_title(self, style: str | None) -> bool:
        """The style is that of the document's title."""
        return any(name.lower() == "title" for name, _ in self._chain(style)) or style == "Title"

    def is_code(self, style: str | None) -> bool:
        """The style is one for code, by its name."""
        return any(
            word in name.lower() for name, _ in self._chain(style) for word in ("code", "preformatted")
        )

    def numbering(self, style: str | None) -> etree._Element | None:
        """The numbering properties a style brings."""
        return next(
            (n for _, element in self._chain(style) if (n := first(element, "pPr", "numPr")) is not None),
            None,
        )

    def _chain(self, style: str | None) -> list[tuple[str, etree._Element]]:
        """The style and those it is based on, nearest first, each with its name."""
        chain: list[tuple[str, etree._Element]] = []
        while style in self._styles and len(chain) < _MAX_BASES:
            element = self._styles[style]
            name = first(element, "name")
            chain.append(("" if name is None else attribute(name, "val") or "", element))
            based_on = first(element, "basedOn")
            style = None if based_on is None else attribute(based_on, "val")
        return chain


def _outline_level(element: etree._Element) -> int | None:
    value = attribute(element, "val") or ""
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else None


class Numbering:
    """Counts the numbered paragraphs of a document and gives each its label."""

    def __init__(self, root: etree._Element | None, styles: Styles) -> None:
        self._styles = styles
        self._levels: dict[str, dict[int, tuple[str, str, int]]] = {}
        self._abstract_of: dict[str, str] = {}
        self._counts: dict[str, dict[int, int]] = {}
        if root is None:
            return
        for abstract in children(root, "abstractNum"):
            self._levels[attribute(abstract, "abstractNumId") or ""] = _levels(abstract)
        for number in children(root, "num"):
            target = first(number, "abstractNumId")
            name = attribute(number, "numId") or ""
            self._abstract_of[name] = "" if target is None else attribute(target, "val") or ""
            if next(descendants(number, "startOverride"), None) is not None:
                # A list that starts anew counts for itself.
                own = f"{self._abstract_of[name]}/{name}"
                self._levels[own] = self._levels.get(self._abstract_of[name], {})
                self._abstract_of[name] = own

    def label(self, paragraph: etree._Element) -> tuple[str, int]:
        """The label (`1.`, `a)`, `-` for bullets, empty where there is none) and the depth from 0."""
        properties = first(paragraph, "pPr", "numPr")
        from_style = self._styles.numbering(self._styles.of(paragraph))
        number = _value(properties, "numId") or _value(from_style, "numId")
        depth = int(_value(properties, "ilvl") or _value(from_style, "ilvl") or 0)
        abstract = self._abstract_of.get(number or "")
        if abstract is None or number == "0":
            return "", 0
        levels = self._levels.get(abstract, {})
        kind, template, start = levels.get(depth, ("bullet", "", 1))
        counts = self._counts.setdefault(abstract, {})
        counts[depth] = counts.get(depth, start - 1) + 1
        for deeper in [level for level in counts if level > depth]:
            del counts[deeper]
        if kind == "bullet":
            return "-", depth
        if kind == "none" or not template:
            return "", depth

        def count_at(found: re.Match[str]) -> str:
            level = int(found[1]) - 1
            form, _, first_number = levels.get(level, ("decimal", "", 1))
            return _formatted(counts.get(level, first_number), form)

        return re.sub(r"%(\d)", count_at, template).strip(), depth


def _levels(abstract: etree._Element) -> dict[int, tuple[str, str, int]]:
    """Format, template and first number of each level of a list."""
    levels = {}
    for level in children(abstract, "lvl"):
        start = _value(level, "start") or "1"
        levels[int(attribute(level, "ilvl") or 0)] = (
            _value(level, "numFmt") or "decimal",
            _value(level, "lvlText") or "",
            int(start) if start.isdecimal() else 1,
        )
    return levels


def _value(parent: etree._Element | None, name: str) -> str | None:
    found = None if parent is None else first(parent, name)
    return None if found is None else attribute(found, "val")


def _formatted(number: int, form: str) -> str:
    number = max(0, min(number, 100_000))
    if form in ("lowerLetter", "upperLetter") and number:
        letter = chr(ord("a") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter if form == "lowerLetter" else letter.upper()
    if form in ("lowerRoman", "upperRoman") and 0 < number < 4000:
        roman = ""
        for value, digits in _ROMAN:
            roman += digits * (number // value)
            number %= value
        return roman if form == "lowerRoman" else roman.upper()
    return str(number)
