"""Damage on disk: found by verify, answered with the right text or with 503, mended without encoding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.services import Services, open_services
from app.upkeep import repairing
from app.versions import verifying
from tests.encoders import CountingEncoder
from tests.faults.harness.checks import active_version
from tests.service import send_text, settings_for, work

SEARCHES = [(f"note{number}word", mode) for number in (3, 17) for mode in ("bm25", "dense", "hybrid")]
CODES = {"index_damaged", "index_missing", "index_outdated"}


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def opened(tmp_path: Path, encoder: CountingEncoder) -> Iterator[Services]:
    """A service with documents of which some were replaced, so that there are dead rows."""
    with open_services(settings_for(tmp_path / "home", ""), load=lambda _spec, _dir: encoder) as services:
        client = TestClient(create_app(services))
        for turn in range(2):
            for number in range(20 - 15 * turn):
                text = f"# Note {number}\n\nThe word is note{number}word, turn {turn}, on copper and salt.\n"
                send_text(client, text, f"{number}.md")
            work(services)
        yield services


def answers(services: Services) -> list[tuple[int, object]]:
    """Status, and the texts found or the code of the refusal, as a process that starts now gives them."""
    with open_services(services.settings, load=lambda _spec, _dir: CountingEncoder()) as fresh:
        client = TestClient(create_app(fresh), raise_server_exceptions=False)
        found: list[tuple[int, object]] = []
        for query, mode in SEARCHES:
            reply = client.post("/v1/search", json={"query": query, "mode": mode, "top_k": 3})
            body = reply.json()
            told = [hit["text"] for hit in body["hits"]] if reply.status_code == 200 else body["code"]
            found.append((reply.status_code, told))
    return found


def check_found_and_mended(
    services: Services, encoder: CountingEncoder, sound: list[tuple[int, object]]
) -> None:
    version = active_version(services)
    for given, expected in zip(answers(services), sound, strict=True):
        assert given == expected or (given[0] == 503 and given[1] in CODES), given
    assert not verifying.verify(services, version).ok
    services.snapshots.forget(version)
    before = encoder.n_documents
    mended = repairing.repair(services, version)
    assert mended.left == ()
    assert encoder.n_documents - before <= 2 * verifying.VECTORS_SAMPLED, "only what verify compares"
    assert answers(services) == sound


def files_of(services: Services) -> list[Path]:
    folder = services.settings.indexes_dir / active_version(services)
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name[0] != "."
    )


def test_a_flipped_byte_in_any_file_is_found_and_mended(opened: Services, encoder: CountingEncoder) -> None:
    sound = answers(opened)
    kinds = {path.name for path in files_of(opened)}
    assert {"manifest.json"} < kinds
    for name in sorted(kinds):
        for place in (0.02, 0.5, 0.97):
            path = next(iter(path for path in files_of(opened) if path.name == name), None)
            if path is None:
                continue  # after a repair there is no such file
            content = bytearray(path.read_bytes())
            content[int(len(content) * place)] ^= 0x20
            path.write_bytes(content)
            check_found_and_mended(opened, encoder, sound)


def test_a_missing_segment_and_a_cut_manifest_are_found_and_mended(
    opened: Services, encoder: CountingEncoder
) -> None:
    sound = answers(opened)
    folder = opened.settings.indexes_dir / active_version(opened)
    segment = next(path for path in folder.iterdir() if path.is_dir())
    segment.rename(opened.settings.home / "lost")
    check_found_and_mended(opened, encoder, sound)
    manifest = opened.settings.indexes_dir / active_version(opened) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    check_found_and_mended(opened, encoder, sound)


def test_a_flipped_byte_in_an_original_file_is_found(opened: Services) -> None:
    version = active_version(opened)
    assert verifying.verify(opened, version, files=True).ok
    path = next(opened.store.folder.glob("??/*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = verifying.verify(opened, version, files=True).problems
    assert (problem.kind, problem.path) == ("file", path.name)
