"""What Footnote must hold: for each source the states that are allowed after what was sent and acknowledged.

An operation is sent, and then acknowledged (it happened), refused (it did not), or never answered because
a process died: then both outcomes are allowed, for each of its sources by itself, and nothing else. What is
seen when all is quiet settles which of them it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class Key(NamedTuple):
    collection: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A text with a word that no other text has; what cannot be loaded has none."""

    marker: str
    text: str
    heading: str | None

    @property
    def is_loadable(self) -> bool:
        return self.heading is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A document. `title` is the user's own; `metadata` sorted pairs."""

    content: Content
    title: str | None = None
    metadata: tuple[tuple[str, Any], ...] = ()

    @property
    def shown_title(self) -> str | None:
        return self.title or self.content.heading


Outcome = State | None
"""None: there is no such document."""

Effect = Callable[[Outcome], Outcome]


def put(content: Content, title: str | None, metadata: Mapping[str, Any] | None) -> Effect:
    def effect(before: Outcome) -> Outcome:
        kept = before or State(content=content)
        return State(
            content=content,
            title=title if title is not None else kept.title,
            metadata=_merged(kept.metadata, metadata or {}),
        )

    return effect


def patched(title: str | None, metadata: Mapping[str, Any]) -> Effect:
    """With a title of None it stays as it is."""

    def effect(before: Outcome) -> Outcome:
        if before is None:
            return None
        return replace(before, title=title or before.title, metadata=_merged(before.metadata, metadata))

    return effect


def removed(_before: Outcome) -> Outcome:
    return None


def _merged(before: tuple[tuple[str, Any], ...], new: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    merged = {**dict(before), **new}
    return tuple(sorted((name, value) for name, value in merged.items() if value is not None))


@dataclass(slots=True)
class Model:
    """Not safe to use from several threads for the same source."""

    allowed: dict[Key, set[Outcome]] = field(default_factory=dict)
    markers: dict[str, Key] = field(default_factory=dict)
    """Every marker that was ever sent."""
    n_sent: int = 0
    n_unknown: int = 0

    def copy(self) -> Model:
        """The same by now, to be compared with later."""
        return Model(
            allowed={key: set(outcomes) for key, outcomes in self.allowed.items()}, markers=dict(self.markers)
        )

    def outcomes(self, key: Key) -> set[Outcome]:
        return self.allowed.get(key, {None})

    def present(self) -> list[Key]:
        """The sources that may be there."""
        return sorted(key for key, outcomes in self.allowed.items() if outcomes != {None})

    def certain(self) -> list[Key]:
        """The sources that are there."""
        return sorted(key for key, outcomes in self.allowed.items() if None not in outcomes)

    def send(self, effects: Mapping[Key, Effect]) -> Sent:
        self.n_sent += 1
        before = {key: set(self.outcomes(key)) for key in effects}
        after = {key: {effect(state) for state in before[key]} for key, effect in effects.items()}
        for key in effects:
            self.allowed[key] = before[key] | after[key]
            for outcome in after[key]:
                if outcome is not None and outcome.content.is_loadable:
                    self.markers[outcome.content.marker] = key
        return Sent(self, before, after)

    def observe(self, seen: Mapping[Key, Collection[State]]) -> Iterator[str]:
        """What is seen and not allowed; from now on only what was seen is allowed.

        Of each source the states that what is seen may be; nothing where there is no document.
        """
        for key in sorted({*seen, *self.allowed}):
            outcomes = self.outcomes(key)
            found: set[Outcome] = set(seen[key]) if key in seen else {None}
            possible = outcomes & found
            if not possible:
                yield f"{key}: seen {_told(found)}, allowed {_told(outcomes)}"
                possible = found
            self.allowed[key] = possible


@dataclass(slots=True)
class Sent:
    """An operation on its way. Without a further word it may have happened or not."""

    _model: Model
    _before: Mapping[Key, set[Outcome]]
    _after: Mapping[Key, set[Outcome]]

    def acknowledged(self) -> None:
        self._model.allowed.update(self._after)

    def refused(self) -> None:
        self._model.allowed.update(self._before)

    def missing(self) -> None:
        """It was answered that there is no such document."""
        self._model.allowed.update({key: {None} for key in self._before})

    def unknown(self) -> None:
        self._model.n_unknown += 1


def _told(outcomes: Collection[Outcome]) -> str:
    told = [
        "nothing" if item is None else f"{item.content.marker} {item.title!r} {dict(item.metadata)}"
        for item in outcomes
    ]
    return " or ".join(sorted(told))
