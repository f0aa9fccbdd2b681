"""Clusters: a specification to an open Dask client. Knows no images and no torch model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client as Client  # for annotations in flows

    from .cluster import ClusterSpec, JobSpec, open_cluster, parse_cluster
    from .ranks.run import (
        YIELDED,
        Rank,
        RankEvent,
        RankLimits,
        RankReport,
        RanksResumed,
        TurnChanged,
        run_ranks,
    )

_MODULES = {
    "ClusterSpec": ".cluster",
    "JobSpec": ".cluster",
    "Rank": ".ranks.run",
    "RankEvent": ".ranks.run",
    "RankLimits": ".ranks.run",
    "RankReport": ".ranks.run",
    "RanksResumed": ".ranks.run",
    "TurnChanged": ".ranks.run",
    "YIELDED": ".ranks.run",
    "open_cluster": ".cluster",
    "parse_cluster": ".cluster",
    "run_ranks": ".ranks.run",
}
__all__ = [
    "YIELDED",
    "ClusterSpec",
    "JobSpec",
    "Rank",
    "RankEvent",
    "RankLimits",
    "RankReport",
    "RanksResumed",
    "TurnChanged",
    "open_cluster",
    "parse_cluster",
    "run_ranks",
]


def __getattr__(name: str) -> object:
    """Load ``name`` from its module (PEP 562): `overtile plan` needs no distributed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
