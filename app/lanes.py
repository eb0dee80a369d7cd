"""A worker process: both lanes beside each other, each in a thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from app.worker import Worker

if TYPE_CHECKING:
    from app.services import Services


class Lanes:
    """Works in both lanes until `stop`. A lane that breaks ends the other, and its error is raised."""

    def __init__(self, services: Services) -> None:
        self._ingest = Worker(services, lanes=("ingest",))
        self._upkeep = Worker(services, lanes=("upkeep",))
        self._prepared = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Documents are taken in once the served indexes can be used; until then it would fail."""
        upkeep = threading.Thread(target=self._keep_up, name="upkeep")
        upkeep.start()
        try:
            self._prepared.wait()
            self._ingest.run(prepare=False)
        finally:
            self.stop()
            upkeep.join()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Asks both lanes to stop: after the batch in hand, and where a build can be gone on with."""
        self._ingest.stop()
        self._upkeep.stop()

    def _keep_up(self) -> None:
        try:
            self._upkeep.run(on_ready=self._prepared.set)
        except BaseException as error:
            self._error = error
        finally:
            self._prepared.set()
            self.stop()
