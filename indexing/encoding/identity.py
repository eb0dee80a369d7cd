"""What makes two encoders the same: a digest over everything that changes a vector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256


def fingerprint(parts: Mapping[str, str | int | float | bool | None]) -> str:
    """16 hexadecimal digits over the named parts, whatever their order.

    >>> fingerprint({"dim": 384, "prompt": ""}) == fingerprint({"prompt": "", "dim": 384})
    True
    >>> fingerprint({"dim": 384}) == fingerprint({"dim": 256})
    False
    """
    return sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:16]
