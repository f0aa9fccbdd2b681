"""The provenance of an output, stored with it: input, weights, versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..base.versions import VERSION, versions
from .prepare import Prepared


def provenance(prepared: Prepared, *, workers: int) -> dict[str, Any]:
    """Return the record. It has no secrets, and nothing in it changes a voxel."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "overtile": VERSION,
        "input": str(prepared.source.store),
        "input_path": prepared.source.path,
        "weights": {
            "digest": prepared.predictor.digest,
            "class_names": list(prepared.predictor.class_names),
            **prepared.predictor.settings(),
        },
        "normalisation": dict(prepared.record),
        "workers": workers,
        "versions": versions(),
    }
