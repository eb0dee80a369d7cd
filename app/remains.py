"""What killed processes leave of texts that are gone: files that no row names, copies half made.

A worker sweeps these away by the hour, when no one can be at work on them any more. `clear` does it now, by
the locks of those who could be, and says where one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from app.backup import links, restoring
from app.backup.errors import TargetInUse
from app.db import versions
from app.documents import intake
from app.versions import abandoned

if TYPE_CHECKING:
    from app.services import Services


def clear(services: Services, collection_id: int, stop: Callable[[], bool] = lambda: False) -> list[str]:
    """Removes what is left over, of a collection's versions and of the whole store; gives what is in use."""
    try:
        # A restore puts its files in place before the rows that name them.
        with restoring.only_restore(services.settings.home):
            restoring.forget_staged(services.settings)
            _sweep_store(services, stop)
    except TargetInUse:
        return ["a restore is at work; purge again when it is done"]
    return [*_backups(services), *_versions(services, collection_id)]


def _sweep_store(services: Services, stop: Callable[[], bool]) -> None:
    with services.store.removing():
        services.store.sweep(0.0)  # whoever copies a file here holds `adding`
    intake.sweep_files(services, stop)
    links.sweep(services.store)


def _backups(services: Services) -> Iterator[str]:
    if any((services.store.folder / "backup").glob("*")):
        yield "a backup is being written, or was killed within the last minute; purge again when it is done"


def _versions(services: Services, collection_id: int) -> Iterator[str]:
    """Directories whose version is forgotten, or failed: no one reads them."""
    folder = services.settings.indexes_dir
    with services.read() as session:
        failed = versions.list_all(session, collection_id=collection_id, status="failed")
    left = [folder / row.id for row in failed if (folder / row.id).is_dir()]
    for path in (*abandoned.unnamed(services), *left):
        if not abandoned.remove_directory(path) and path.exists():
            yield f"index version {path.name}: it is gone, and another process has its files in hand"
