"""Clusters: a specification to an open Dask client. Knows no images and no torch model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cluster import ClusterSpec, open_cluster, parse_cluster

__all__ = ["ClusterSpec", "open_cluster", "parse_cluster"]


def __getattr__(name: str) -> object:
    """Load ``name`` from its module (PEP 562): `overtile plan` needs no distributed."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".cluster", __name__), name)
