"""Where an output comes from, kept with it: what read, computed and wrote it."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .prepare import VERSION, Prepared

_VERSIONS_OF = ("dask", "distributed", "numpy", "prefect", "torch", "zarr")


def provenance(prepared: Prepared, *, workers: int) -> dict[str, Any]:
    """Return the record; it holds no secret and nothing that changes a voxel."""
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


def versions() -> dict[str, str]:
    """Return the versions of what computes, as installed here."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
