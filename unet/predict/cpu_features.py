"""What this machine's processor computes natively, told without torch: a plan must be quick."""

from __future__ import annotations

from functools import cache
from pathlib import Path

BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))
"""As Linux names them; torch asks the processor for the same two."""


@cache
def processor_has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16; False where nothing says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not BF16_FLAGS.isdisjoint(flags.split())
