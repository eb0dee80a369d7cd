"""Where and on what a measurement was made: written into every result."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from indexing.encoding.onnx_encoder import available_cores

INSTRUCTIONS = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}


def describe() -> dict[str, Any]:
    """Cores, vector instructions, load average before the run, and the commit."""
    flags = _processor_flags()
    best = next((name for flag, name in INSTRUCTIONS.items() if flag in flags), platform.machine())
    return {
        "machine": f"{available_cores()} cores, {best}",
        "load_average": round(os.getloadavg()[0], 2),
        "commit": _commit(),
    }


def _processor_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
