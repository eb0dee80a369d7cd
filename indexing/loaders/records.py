"""JSON and JSON lines: each object is a record with its title as a heading and its fields as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_TITLE_FIELDS = ("title", "name", "headline", "subject")
_TEXT_FIELDS = ("text", "content", "body", "abstract", "contents", "passage")
_MAX_TITLE_CHARS = 200


def load_json(source: SourceFile) -> LoadedText:
    """A JSON document; JSON lines under this name are read too."""
    text = source.text()
    try:
        document: Json = json.loads(text)
    except RecursionError as exc:
        raise LoadError("corrupt_file", "the JSON is nested too deeply") from exc
    except ValueError as exc:
        if "\n{" in text.strip():
            return load_jsonl(source)
        raise LoadError("corrupt_file", f"not valid JSON: {exc}") from exc
    builder = TextBuilder(source.limits.text_chars)
    title = None
    if isinstance(document, dict):
        title = _title(document)
        _write_object(builder, document)
    else:
        _write_items(builder, document if isinstance(document, list) else [document])
    return builder.finish(title=title)


def load_jsonl(source: SourceFile) -> LoadedText:
    """JSON lines; a line that is no JSON is kept as it stands, corrupt_file where most are none."""
    builder = TextBuilder(source.limits.text_chars)
    n_lines = n_damaged = 0
    for line in source.text().split("\n"):
        if not line.strip():
            continue
        n_lines += 1
        try:
            item: Json = json.loads(line)
        except (ValueError, RecursionError):
            n_damaged += 1
            item = line
        _write_items(builder, [item])
    if n_damaged * 2 > n_lines:
        raise LoadError("corrupt_file", f"{n_damaged} of {n_lines} lines are not valid JSON")
    return builder.finish()


def _write_object(builder: TextBuilder, document: dict[str, Json]) -> None:
    """The fields of the outermost object; lists of objects follow under a heading each."""
    tables = {name: value for name, value in document.items() if _is_record_list(value)}
    _write_record(builder, {name: value for name, value in document.items() if name not in tables})
    for name, value in tables.items():
        builder.heading(name, 1)
        _write_items(builder, value if isinstance(value, list) else [value])


def _is_record_list(value: Json) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _write_items(builder: TextBuilder, items: list[Json]) -> None:
    for item in items:
        if isinstance(item, dict):
            _write_record(builder, item)
        elif isinstance(item, list):
            builder.line(" | ".join(_flat(item)))
        elif item is not None:
            builder.line(_scalar(item))


def _write_record(builder: TextBuilder, record: dict[str, Json]) -> None:
    """A record block: its title, its text, then every other field as `name: value`."""
    title_field = _first_field(record, _TITLE_FIELDS)
    text_field = _first_field(record, _TEXT_FIELDS)
    with builder.block("record"):
        if title_field is not None:
            builder.heading(str(record[title_field]), 2)
        if text_field is not None:
            builder.paragraph(str(record[text_field]))
        rest = {name: value for name, value in record.items() if name not in (title_field, text_field)}
        lines = [f"{name}: {value}" for name, value in _fields(rest, "")]
        if lines and title_field is None and text_field is None:
            builder.paragraph("\n".join(lines))
        else:
            builder.line("\n".join(lines))


def _title(record: dict[str, Json]) -> str | None:
    name = _first_field(record, _TITLE_FIELDS)
    return None if name is None else str(record[name])


def _first_field(record: dict[str, Json], names: tuple[str, ...]) -> str | None:
    """The first of the names that the record has with words under it; a title must be short."""
    for name in names:
        value = record.get(name)
        fits = names is not _TITLE_FIELDS or (isinstance(value, str) and len(value) <= _MAX_TITLE_CHARS)
        if isinstance(value, str) and value.strip() and fits:
            return name
    return None


def _fields(value: dict[str, Json], prefix: str) -> Iterator[tuple[str, str]]:
    """Dotted names and values, depth first; empty values are left out."""
    for name, item in value.items():
        dotted = f"{prefix}{squeeze(name)}"
        if isinstance(item, dict):
            yield from _fields(item, f"{dotted}.")
        elif isinstance(item, list):
            if _is_record_list(item):
                for part in item:
                    yield from _fields(part if isinstance(part, dict) else {"": part}, f"{dotted}.")
            elif item:
                yield dotted, ", ".join(_flat(item))
        elif item is not None and item != "":
            yield dotted, _scalar(item)


def _flat(items: list[Json]) -> Iterator[str]:
    for item in items:
        if isinstance(item, list):
            yield from _flat(item)
        elif isinstance(item, dict):
            yield json.dumps(item, ensure_ascii=False)
        elif item is not None:
            yield _scalar(item)


def _scalar(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
