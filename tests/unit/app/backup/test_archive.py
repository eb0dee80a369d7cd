"""The container: what is written is read, by common tools too, and nothing else is."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backup.archive import SUMS, ArchiveWriter, Member, members, packed, unpacked
from app.backup.errors import ArchiveDamaged

CONTENTS = {
    "footnote.json": b"{}",
    "tables/a/000000.jsonl": b"x" * 1000,
    "files/ab/abc": b"",
    "last": b"\0" * 512,
}


def written(contents: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with ArchiveWriter(out) as writer:
        for name, data in contents.items():
            writer.add(name, data)
        assert writer.close().n_bytes == len(out.getvalue())
    return out.getvalue()


def read(archive: bytes) -> dict[str, bytes]:
    return {member.name: member.read_all(10**9) for member in members(io.BytesIO(archive))}


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}", fullmatch=True), st.binary(max_size=2000)
    )
)
def test_what_is_written_is_read(contents: dict[str, bytes]) -> None:
    assert read(written(contents)) == contents


def test_a_stream_is_read_as_bytes_are(tmp_path: Path) -> None:
    out, data = io.BytesIO(), random.Random(1).randbytes(3_000_001)
    with ArchiveWriter(out) as writer:
        writer.add_stream("a", io.BytesIO(data), len(data))
        writer.close()
    assert out.getvalue() == written({"a": data})
    with ArchiveWriter(out) as writer, pytest.raises(ValueError, match="1 bytes are missing"):
        writer.add_stream("b", io.BytesIO(data), len(data) + 1)


@pytest.mark.skipif(
    not shutil.which("sha256sum") or not shutil.which("tar"), reason="needs tar and sha256sum"
)
def test_common_tools_open_and_check_it(tmp_path: Path) -> None:
    (tmp_path / "backup.tar").write_bytes(written(CONTENTS))
    subprocess.run(["tar", "-xf", "backup.tar"], cwd=tmp_path, check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", SUMS], cwd=tmp_path, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert (tmp_path / "last").stat().st_mode & 0o077 == 0


@given(st.integers(0, 2**30), st.integers(1, 255))
def test_a_changed_byte_is_found_or_changes_nothing(position: int, change: int) -> None:
    archive = bytearray(written(CONTENTS))
    archive[position % len(archive)] ^= change
    try:
        found = read(bytes(archive))
    except ArchiveDamaged:
        return
    assert found == CONTENTS  # it was in the padding, or in an owner or a time


@given(st.integers(0, 2**30))
def test_a_cut_is_found(length: int) -> None:
    archive = written(CONTENTS)
    end = archive.rindex(b"last\n") + len(b"last\n")  # what follows is padding
    with pytest.raises(ArchiveDamaged):
        read(archive[: length % end])


def tar_of(*items: tuple[tarfile.TarInfo, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in items:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def named(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(tar_of((named("../../etc/passwd"), b"x")), id="parent"),
        pytest.param(tar_of((named("files/../x"), b"x")), id="parent within"),
        pytest.param(tar_of((named("/etc/passwd"), b"x")), id="absolute"),
        pytest.param(tar_of((named("a\nb"), b"x")), id="line break"),
        pytest.param(tar_of((named("a", type=tarfile.SYMTYPE, linkname="/etc"), b"")), id="symlink"),
        pytest.param(tar_of((named("a", type=tarfile.LNKTYPE, linkname="b"), b"")), id="hard link"),
        pytest.param(tar_of((named("a", type=tarfile.DIRTYPE), b"")), id="folder"),
        pytest.param(tar_of((named("a", type=tarfile.CHRTYPE), b"")), id="device"),
        pytest.param(tar_of((named("a" * 300), b"x")), id="long name"),
        pytest.param(tar_of((named("é"), b"x"), format=tarfile.PAX_FORMAT), id="extension header"),
        pytest.param(gzip.compress(written(CONTENTS)), id="packed as a whole"),
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\3\4" + bytes(2000), id="zip"),
        pytest.param(random.Random(2).randbytes(4096), id="noise"),
    ],
)
def test_only_plain_files_with_plain_names_are_taken(hostile: bytes) -> None:
    with pytest.raises(ArchiveDamaged):
        read(hostile)


def test_a_size_that_is_not_there_is_not_allocated() -> None:
    info = named("a")
    info.size = 2**60
    with pytest.raises(ArchiveDamaged, match="cut off"):
        next(members(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1000))).read_all(2**61)
    with pytest.raises(ArchiveDamaged, match="more than any backup writes"):
        next(members(io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)))).read_all(2**30)


def with_sums(change: Callable[[list[bytes]], object]) -> bytes:
    """The archive with another list of checksums."""
    lines = [f"{sha256(data).hexdigest()}  {name}\n".encode() for name, data in CONTENTS.items()]
    change(lines)
    out = io.BytesIO()
    with ArchiveWriter(out) as writer:
        for name, data in [*CONTENTS.items(), (SUMS, b"".join(lines))]:
            writer.add(name, data)
    return out.getvalue() + bytes(1024)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines.pop(), "last is not what was written"),
        (lambda lines: lines.append(lines[0]), "is missing"),
        (lambda lines: lines.append(b"x" * 2_000_000), "is missing"),
        (lambda lines: lines.reverse(), "footnote.json is not what was written"),
        (lambda lines: lines.clear(), "footnote.json is not what was written"),
    ],
)
def test_the_list_has_to_be_exactly_what_is_there(change: Callable[[list[bytes]], object], said: str) -> None:
    with pytest.raises(ArchiveDamaged, match=said):
        read(with_sums(change))


def test_nothing_may_follow_the_list() -> None:
    archive = written(CONTENTS)[:-1024]
    with pytest.raises(ArchiveDamaged, match="has to be the last"):
        read(archive + written({"more": b"x"}))


def member_of(data: bytes) -> Member:
    return next(members(io.BytesIO(written({"a.gz": data}))))


@given(st.binary(max_size=5000))
def test_what_is_packed_is_unpacked(raw: bytes) -> None:
    data = packed(raw)
    if data is not None:
        assert b"".join(unpacked(member_of(data))) == raw


@pytest.mark.parametrize("size", [10**6, 10**8])
def test_a_bomb_is_stopped_early(size: int) -> None:
    raw = bytes(size)
    assert packed(raw) is None, "no backup holds such a member"
    bomb, seen = gzip.compress(raw), list[bytes]()
    with pytest.raises(ArchiveDamaged, match="grows more than 100-fold"):
        seen.extend(unpacked(member_of(bomb)))
    assert sum(map(len, seen)) <= 100 * len(bomb)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"no gzip", gzip.compress(b"abc" * 9)[:-3], gzip.compress(b"abc") + b"x"],
    ids=["nothing", "something else", "cut off", "something behind"],
)
def test_what_cannot_be_unpacked_is_damaged(damaged: bytes) -> None:
    with pytest.raises(ArchiveDamaged, match="cannot be unpacked"):
        list(unpacked(member_of(damaged)))
