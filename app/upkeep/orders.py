"""What an index version is to be built with: the settings, and over them what was ordered for this build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from pydantic import ValidationError

from app.db.texts import checked_text
from app.errors import InvalidRequest
from app.services import encoder_spec, fitting_chunker
from app.settings import ChunkerSettings, EncoderSettings, Settings
from indexing.chunking import ChunkerSpec
from indexing.encoding.factory import EncoderSpec

if TYPE_CHECKING:
    from app.services import Services

Preset = Literal["fine", "default", "coarse"]
PRESETS: Final = get_args(Preset)
# Longest chunk and overlap, in tokens, as far as the encoder's window allows.
_SIZES: Mapping[str, tuple[int, int]] = {"fine": (128, 16), "coarse": (512, 64)}


def keys() -> tuple[str, ...]:
    """What can be set for one build.

    >>> keys()[0], keys()[-1]
    ('encoder.model', 'chunker.overlap_tokens')
    """
    areas = (("encoder", EncoderSettings), ("chunker", ChunkerSettings))
    return tuple(f"{area}.{name}" for area, model in areas for name in model.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """A build that was ordered; what is not in it is as the settings say when it is begun."""

    encoder: str | None = None
    chunker: Preset | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    activate: bool = True
    force: bool = False

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> BuildOrder:
        """The order in the payload of a job."""
        return cls(**{name: payload[name] for name in cls.__slots__ if name in payload})

    def payload(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder,
            "chunker": self.chunker,
            "settings": dict(self.settings),
            "activate": self.activate,
            "force": self.force,
        }

    @property
    def key(self) -> str:
        """The same for two orders that are the same."""
        return sha256(dumps(self.payload(), sort_keys=True).encode()).hexdigest()[:16]

    def areas(self, settings: Settings) -> tuple[EncoderSettings, ChunkerSettings]:
        """The settings of encoder and chunker. Raises InvalidRequest (`unknown_setting`, `invalid_setting`).

        Another model than the one that is set begins with its own defaults.
        """
        encoding = settings.encoder.model_dump()
        if self.encoder is not None and self.encoder != settings.encoder.model:
            encoding = {"model": self.encoder}
        given: dict[str, dict[str, Any]] = {"encoder": encoding, "chunker": settings.chunker.model_dump()}
        for key, value in self.settings.items():
            if key not in keys():
                raise InvalidRequest(
                    f"{key!r} cannot be set for a build; what can is {', '.join(keys())}.",
                    code="unknown_setting",
                )
            area, _, name = key.partition(".")
            given[area][name] = None if value == "" else value
        try:
            return EncoderSettings(**given["encoder"]), ChunkerSettings(**given["chunker"])
        except ValidationError as error:
            (first, *_) = error.errors()
            name = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"{name}: {first['msg']}", code="invalid_setting") from error

    def specs(self, services: Services) -> tuple[EncoderSpec, ChunkerSpec]:
        """The encoder, and the chunker that fits its window; loads the encoder.

        Raises InvalidRequest as `areas` does and where chunks would be too long, and EncoderError.
        """
        encoder, chunker = self.areas(services.settings)
        spec = encoder_spec(encoder)
        window = services.encoders.get(spec).max_tokens
        if self.chunker is not None:
            chunker = self._sized(chunker, window)
        return spec, fitting_chunker(chunker, window)

    def keeps_tokens(self, settings: Settings) -> bool:
        """Whether the version keeps token vectors. Raises InvalidRequest as `areas` does."""
        return self.areas(settings)[0].keep_tokens

    def _sized(self, chunker: ChunkerSettings, window: int) -> ChunkerSettings:
        """The sizes of the preset, but for those that were ordered by themselves."""
        sizes: dict[str, int | None] = {"max_tokens": None, "overlap_tokens": None}
        if self.chunker is not None and self.chunker in _SIZES:
            longest, overlap = _SIZES[self.chunker]
            sizes = {"max_tokens": min(longest, window), "overlap_tokens": min(overlap, window // 4)}
        ordered = {
            name: value for name, value in chunker.model_dump().items() if f"chunker.{name}" in self.settings
        }
        return ChunkerSettings(**{**sizes, **ordered})


def checked(settings: Settings, order: BuildOrder) -> BuildOrder:
    """The order, if it can be read and kept. Raises InvalidRequest, InvalidText."""
    order.areas(settings)
    for name, text in {"encoder": order.encoder, **order.settings}.items():
        if isinstance(text, str):
            checked_text(name, text)
    return order
