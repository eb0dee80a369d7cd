"""Zip containers of office formats, read within limits."""

from __future__ import annotations

import zipfile
from types import TracebackType

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import parse_xml

MAX_MEMBERS = 100_000


class Archive:
    """The members of a zip file by name; nothing is ever unpacked to disk.

    The declared sizes of all members must stay within the limit, and `zipfile` reads no more of a member
    than it declares, so what a reader gets is bounded. Raises corrupt_file, encrypted_file, too_large.
    """

    def __init__(self, source: SourceFile) -> None:
        try:
            self._zip = zipfile.ZipFile(source.path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as exc:
            raise LoadError("corrupt_file", f"not a whole zip container: {exc}") from exc
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise LoadError("too_large", f"the container has {len(members)} members")
        total = sum(member.file_size for member in members)
        if total > source.limits.decompressed_bytes:
            raise LoadError("too_large", f"the container unpacks to {total} bytes, over the limit")
        self._members = {member.filename.lstrip("/"): member for member in members}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The bytes of a member."""
        member = self._members.get(name)
        if member is None:
            raise LoadError("corrupt_file", f"the container has no member {name!r}")
        if member.flag_bits & 0x1:
            raise LoadError("encrypted_file", "the container is protected with a password")
        try:
            return self._zip.read(member)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, ValueError) as exc:
            raise LoadError("corrupt_file", f"member {name!r} cannot be unpacked: {exc}") from exc

    def xml(self, name: str) -> etree._Element:
        """The root element of a member."""
        return parse_xml(self.read(name))

    def optional_xml(self, name: str) -> etree._Element | None:
        """The root element of a member, None where it is absent or damaged: for parts that can be missed."""
        if name not in self._members:
            return None
        try:
            return self.xml(name)
        except LoadError as exc:
            if exc.code == "corrupt_file":
                return None
            raise
