"""What this machine's processor computes natively, found without torch: a plan must be quick."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))
"""As Linux names them; torch asks the processor for the same two."""

ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that hold oneDNN (torch's convolutions) to older instructions."""


def processor_has_bf16() -> bool:
    """Return whether convolutions run in bfloat16 natively; False where nothing says so."""
    return not onednn_is_limited() and not BF16_FLAGS.isdisjoint(_flags())


def onednn_is_limited() -> bool:
    """Return whether the environment keeps oneDNN from the processor's bfloat16 instructions."""
    limit = next((os.environ[name] for name in ISA_LIMITS if name in os.environ), "").upper()
    is_older = limit.startswith(("SSE", "AVX")) and not limit.startswith("AVX10")
    return is_older and not any(name in limit for name in ("BF16", "FP16", "AMX"))


@cache
def _flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
