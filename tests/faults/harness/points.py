"""Every point where a process of Footnote can kill itself, and which commands come by there.

`tests/faults/test_points.py` holds this list against the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

API: Final = "serve"
WORKER: Final = "worker"

_TAKES_IN = frozenset({API, "ingest"})
_WORKS = frozenset({WORKER, "ingest"})
_WRITES = frozenset({API, WORKER, "ingest", "index", "documents"})
"""Whoever writes to an index version."""
_BUILDS = frozenset({WORKER, "index"})
_SWITCHES = frozenset({API, WORKER, "index"})
_DELETES = frozenset({API, "documents"})

POINTS: Final[Mapping[str, frozenset[str]]] = {
    # A document taken in, changed, taken out.
    "file-written": _TAKES_IN,
    "file-stored": _TAKES_IN,
    "document-accepting": frozenset({API}),
    "document-accepted": frozenset({API}),
    "idempotency-worked": frozenset({API}),
    "idempotency-kept": frozenset({API}),
    "document-patching": frozenset({API}),
    "document-patched": frozenset({API}),
    "document-deleting": _DELETES,
    "document-deleted": _DELETES,
    "file-removed": frozenset({API, WORKER, "documents"}),
    "deletion-indexed": _DELETES,
    "collection-deleted": frozenset({API}),
    "purge-merged": _DELETES,
    "purge-wiped": _DELETES,
    # A batch of documents, from claimed to served.
    "job-claimed": _WORKS,
    "batch-begun": _WORKS,
    "batch-encoded": _WORKS,
    "batch-saved": _WORKS,
    "index-committed": _WRITES - {"documents"},
    "nodes-indexed": frozenset({WORKER}),
    # A tree of summaries.
    "tree-document": frozenset({WORKER}),
    "tree-layer": frozenset({WORKER}),
    "tree-grown": frozenset({WORKER}),
    "batch-indexed": _WORKS,
    "batch-publishing": _WORKS,
    "batch-published": _WORKS,
    "job-worked": frozenset({WORKER}),
    "job-succeeded": frozenset({WORKER}),
    # A commit to an index version, and a merge of its segments.
    "segment-written": _WRITES - {"documents", API},
    "segment-renamed": _WRITES - {"documents", API},
    "dead-rows-written": _WRITES,
    "manifest-written": _WRITES,
    "manifest-renamed": _WRITES,
    "retired-removed": _WRITES,
    "merge-begun": frozenset({API, WORKER, "documents"}),
    "merge-written": frozenset({API, WORKER, "documents"}),
    "merge-renamed": frozenset({API, WORKER, "documents"}),
    # An index version built, switched to, removed.
    "version-created": _BUILDS,
    "version-recorded": _BUILDS,
    "version-filled": _BUILDS,
    "version-verified": _BUILDS,
    "version-ready": _BUILDS,
    "version-activating": _SWITCHES,
    "version-activated": _SWITCHES,
    "version-forgotten": _SWITCHES,
    "version-removed": _SWITCHES,
    # A backup written and restored.
    "backup-linked": frozenset({"backup"}),
    "backup-rows": frozenset({"backup"}),
    "backup-files": frozenset({"backup"}),
    "backup-written": frozenset({"backup"}),
    "backup-renamed": frozenset({"backup"}),
    "restore-rows": frozenset({"restore"}),
    "restore-files": frozenset({"restore"}),
    "restore-kept": frozenset({"restore"}),
    "restore-loaded": frozenset({"restore"}),
    "restore-switching": frozenset({"restore"}),
    "restore-placed": frozenset({"restore"}),
    "restore-switched": frozenset({"restore"}),
    "restore-indexed": frozenset({"restore"}),
}
