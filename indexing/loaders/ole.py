"""OLE containers: the envelope of Microsoft's binary formats."""

from __future__ import annotations

import io

import olefile

from indexing.errors import LoadError
from indexing.loaders.source import SourceFile
from indexing.types import Scalar


class OleStreams:
    """The named streams of a container; corrupt_file where it is damaged."""

    def __init__(self, source: SourceFile) -> None:
        try:
            self._container = olefile.OleFileIO(io.BytesIO(source.data()))
        except (OSError, ValueError, IndexError, TypeError) as exc:
            raise LoadError("corrupt_file", f"not a whole OLE container: {exc}") from exc

    def names(self) -> list[str]:
        """Paths of all streams, parts joined by `/`."""
        return ["/".join(path) for path in self._container.listdir()]

    def read(self, name: str) -> bytes:
        """The bytes of a stream."""
        try:
            data: bytes = self._container.openstream(name).read()
        except (OSError, ValueError, IndexError, TypeError) as exc:
            raise LoadError("corrupt_file", f"the container's stream {name!r} cannot be read: {exc}") from exc
        return data

    def properties(self) -> tuple[str | None, dict[str, Scalar | list[str]]]:
        """The title and the author the container states."""
        try:
            stated = self._container.get_metadata()
        except (OSError, ValueError, IndexError, TypeError, KeyError):
            return None, {}
        author = _decoded(stated.author)
        return _decoded(stated.title) or None, {"author": author} if author else {}


def _decoded(value: object) -> str:
    return value.decode("cp1252", "replace").strip("\0 ") if isinstance(value, bytes) else ""
