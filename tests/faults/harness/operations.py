"""What is done to a service: each operation tells the model what it sent and what came back."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from app.db import documents
from app.ids import format_id
from tests.faults.harness import checks
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.model import Content, Effect, Key, Model, Sent, patched, put, removed

COLLECTIONS = ("default", "side")
WORDS = (
    *("river", "stone", "bridge", "night", "garden", "engine", "paper", "window", "salt", "copper", "letter"),
    *("harbour", "lantern", "meadow", "orchard", "valley", "saddle", "needle", "anchor", "barrel", "candle"),
)
N_SOURCES = 14
N_FILES = 3


@dataclass(slots=True)
class World:
    """What the operations need and share."""

    fleet: Fleet
    model: Model
    chance: random.Random
    folder: Path
    """For files that commands are given and write."""
    done: Counter[str] = field(default_factory=Counter)
    backups: list[tuple[Path, Model]] = field(default_factory=list)
    """Each with what was allowed when it was written."""
    n_contents: int = 0

    def new_content(self, *, loadable: bool = True) -> Content:
        self.n_contents += 1
        marker = f"mark{self.n_contents}x{self.chance.randrange(16**6):06x}"
        if not loadable:
            # Blank lines are no text, and each time other bytes.
            return Content(marker=marker, text="\n" * (self.n_contents + 1), heading=None)
        n_lines = self.chance.choice((1, 3, 8, 40))
        lines = [
            " ".join(self.chance.choices(WORDS, k=self.chance.randint(6, 14))) + "." for _ in range(n_lines)
        ]
        lines.insert(self.chance.randrange(len(lines) + 1), f"The word is {marker}.")
        heading = f"Record {marker}"
        return Content(marker=marker, text=f"# {heading}\n\n" + "\n\n".join(lines) + "\n", heading=heading)

    def any_key(self) -> Key:
        collection = "side" if self.chance.random() < 0.2 else "default"
        return Key(collection, f"page-{self.chance.randrange(N_SOURCES)}.md")

    def present_key(self) -> Key | None:
        keys = [key for key in self.model.present() if key.source.startswith("page-")]
        return self.chance.choice(keys) if keys else None

    def title(self) -> str | None:
        return self.chance.choice((None, None, f"Title {self.chance.randrange(1000)}"))

    def metadata(self) -> dict[str, Any] | None:
        chance = self.chance
        return chance.choice(
            (None, {"year": chance.randrange(1990, 2030)}, {"tag": chance.choice("abc")}, {"n": 1.5})
        )

    def path_of(self, key: Key) -> str:
        return f"/v1/documents/{format_id(documents.id_of(key.collection, key.source))}"


def settle(sent: Sent, reply: httpx.Response | None) -> None:
    """What an answer says about an operation."""
    if reply is None or reply.status_code >= 500:
        sent.unknown()
    elif reply.status_code in (404, 410):
        sent.missing()
    elif reply.status_code >= 400:
        sent.refused()
    else:
        sent.acknowledged()


def ingest(world: World) -> None:
    """A text as JSON or as a file, new or in place of what was there; perhaps sent again under its key."""
    key = world.any_key()
    loadable = world.model.outcomes(key) != {None} or world.chance.random() < 0.9
    content, title, metadata = world.new_content(loadable=loadable), world.title(), world.metadata()
    ensure_collection(world, key.collection)
    sent = world.model.send({key: put(content, title, metadata)})
    headers, given = {}, _request(world, key, content, title, metadata)
    if world.chance.random() < 0.5:
        headers["Idempotency-Key"] = str(UUID(int=world.chance.getrandbits(128)))
    reply = world.fleet.ask("POST", "/v1/documents", headers=headers, **given)
    while reply is None and headers:
        # Under its key it may be sent again until it is answered.
        world.fleet.revive()
        reply = _again(world, headers, given)
    if reply is not None and reply.status_code == 404:
        sent.refused()  # the collection is not there
    else:
        settle(sent, reply)


def _again(world: World, headers: dict[str, str], given: Mapping[str, Any]) -> httpx.Response | None:
    """The answer of the first one, once its time is over."""
    while True:
        reply = world.fleet.ask("POST", "/v1/documents", headers=headers, **given)
        if reply is None or reply.status_code != 409:
            return reply
        time.sleep(0.1)


def _request(
    world: World, key: Key, content: Content, title: str | None, metadata: Mapping[str, Any] | None
) -> dict[str, Any]:
    fields: dict[str, Any] = {"collection": key.collection, "source": key.source}
    if title is not None:
        fields["title"] = title
    if world.chance.random() < 0.5:
        return {"json": {**fields, "text": content.text, "metadata": metadata or {}}}
    if metadata is not None:
        fields["metadata"] = json.dumps(metadata)
    return {"data": fields, "files": {"file": (key.source, content.text.encode())}}


def ensure_collection(world: World, name: str) -> None:
    if name != "default":
        world.fleet.ask("POST", "/v1/collections", json={"name": name})


def ingest_folder(world: World) -> None:
    """Files by the command; two of them in place of those of last time."""
    folder = world.folder / "inbox"
    folder.mkdir(exist_ok=True)
    effects: dict[Key, Effect] = {}
    for number in range(N_FILES):
        path = folder / f"file-{number}.md"
        content = world.new_content()
        path.write_text(content.text)
        effects[Key("default", str(path))] = put(content, None, None)
    sent = world.model.send(effects)
    code = world.fleet.run("ingest", str(folder), "--json", death=world.fleet.death("ingest"))
    if code == 0:
        sent.acknowledged()
    else:
        sent.unknown()


def patch(world: World) -> None:
    key = world.present_key()
    if key is None:
        return
    title, metadata = world.title(), world.metadata() or {}
    sent = world.model.send({key: patched(title, metadata)})
    body = {"metadata": metadata} | ({"title": title} if title else {})
    settle(sent, world.fleet.ask("PATCH", world.path_of(key), json=body))


def delete(world: World) -> None:
    key = world.present_key()
    if key is None:
        return
    sent = world.model.send({key: removed})
    purge = {"purge": "true"} if world.chance.random() < 0.3 else {}
    settle(sent, world.fleet.ask("DELETE", world.path_of(key), params=purge))


def delete_by_command(world: World) -> None:
    key = world.present_key()
    if key is None:
        return
    sent = world.model.send({key: removed})
    code = world.fleet.run(
        "documents", "delete", key.source, "--collection", key.collection, "--yes", "--json",
        death=world.fleet.death("documents"),
    )  # fmt: skip
    if code == 0:
        sent.acknowledged()
    elif code is None:
        sent.unknown()
    else:
        sent.missing()


def delete_collection(world: World) -> None:
    keys = [key for key in world.model.present() if key.collection == "side"]
    sent = world.model.send(dict.fromkeys(keys, removed))
    settle(sent, world.fleet.ask("DELETE", "/v1/collections/side"))


def cancel_and_retry(world: World) -> None:
    """A job that is tried again in the end does what it was to do."""
    reply = world.fleet.ask("GET", "/v1/jobs", params={"limit": 20})
    jobs = [job for job in reply.json()["data"] if job["kind"] == "ingest"] if reply is not None else []
    if jobs:
        job = world.chance.choice(jobs)["id"]
        world.fleet.ask("POST", f"/v1/jobs/{job}/cancel")
        if world.chance.random() < 0.5:
            world.fleet.ask("POST", f"/v1/jobs/{job}/retry")


def build_by_job(world: World) -> None:
    world.fleet.ask(
        "POST",
        "/v1/indexes",
        json={
            "settings": {"encoder.dim": world.chance.choice((32, 64))},
            "activate": world.chance.random() < 0.7,
        },
    )


def build_and_activate(world: World) -> None:
    """A build of the worker, with the same recipe each time, that is served at its end."""
    world.fleet.ask("POST", "/v1/indexes", json={"settings": {"encoder.dim": 32}})


def grow_tree(world: World) -> None:
    world.fleet.ask("POST", "/v1/collections/default/tree")


def delete_and_purge(world: World) -> None:
    key = world.present_key()
    if key is not None:
        sent = world.model.send({key: removed})
        settle(sent, world.fleet.ask("DELETE", world.path_of(key), params={"purge": "true"}))


def prune(world: World) -> None:
    world.fleet.run("index", "prune", "--keep", "0", "--json", death=world.fleet.death("index"))


def index_command(world: World) -> None:
    fleet, chance = world.fleet, world.chance
    argv = chance.choice(
        (
            ("rebuild",),
            ("build", "--set", "encoder.dim=48"),
            ("build", "--chunker", "fine", "--no-activate"),
            ("prune", "--keep", "1"),
        )
    )
    fleet.run("index", *argv, "--json", death=fleet.death("index"))


def switch(world: World) -> None:
    """Rollback, or another version served."""
    if world.chance.random() < 0.5:
        world.fleet.ask("POST", "/v1/indexes/rollback", json={})
        return
    reply = world.fleet.ask("GET", "/v1/indexes", params={"collection": "default"})
    ready = (
        [row["id"] for row in reply.json()["data"] if row["status"] == "ready"] if reply is not None else []
    )
    if ready:
        world.fleet.ask("POST", f"/v1/indexes/{world.chance.choice(ready)}/activate")


def back_up(world: World) -> None:
    path = world.folder / f"backup-{world.done['back_up']}.tar"
    if world.fleet.run("backup", str(path), "--json", death=world.fleet.death("backup")) == 0:
        world.backups.append((path, world.model.copy()))


def restore(world: World) -> None:
    """The last backup, in a folder of its own that had one before; given again when it was killed."""
    fleet, home = world.fleet, world.folder / "restored"
    if not world.backups:
        return
    path, model = world.backups[-1]
    argv = ("restore", str(path), "--replace", "--home", str(home), "--json")
    env = {"FOOTNOTE_DATABASE_URL": ""}
    if not home.exists():
        fleet.run(*argv, env=env)
    code = fleet.run(*argv, env=env, death=fleet.death("restore"))
    if code is None:
        code = fleet.run(*argv, env=env)
    if code != 0:
        fleet.problems.append(f"restore ended with {code}")
        return
    fleet.problems += [f"restored: {found}" for found in checks.restored(home, model.copy())]


def look(world: World) -> None:
    """A search, which must be answered whatever goes on."""
    marker = world.chance.choice([*world.model.markers, "river"])
    reply = world.fleet.ask("POST", "/v1/search", json={"query": marker, "top_k": 5})
    if reply is not None and reply.status_code != 200:
        world.fleet.problems.append(f"search: {reply.status_code} {reply.text}")


OPERATIONS: Mapping[Callable[[World], None], float] = {
    ingest: 30,
    ingest_folder: 4,
    patch: 8,
    delete: 8,
    delete_by_command: 2,
    delete_collection: 1,
    cancel_and_retry: 4,
    build_by_job: 2,
    grow_tree: 2,
    index_command: 3,
    switch: 3,
    back_up: 2,
    restore: 1,
    look: 6,
}
"""How often each comes, beside the others."""


def do_one(world: World) -> None:
    (operation,) = world.chance.choices([*OPERATIONS], weights=[*OPERATIONS.values()])
    world.done[operation.__name__] += 1
    operation(world)


SCRIPT: tuple[Callable[[World], None], ...] = (
    ingest,
    ingest_folder,
    patch,
    ingest,
    build_and_activate,
    grow_tree,
    delete_and_purge,
    ingest,
    cancel_and_retry,
    delete_by_command,
    index_command,
    switch,
    prune,
    delete_collection,
    back_up,
    restore,
)
"""Between them they come by every point."""
