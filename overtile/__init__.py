"""The three packages under one name: ``overtile.pipeline``, ``overtile.unet``, ``overtile.deploy``.

They are the packages ``pipeline``, ``unet`` and ``deploy``, loaded when they are first used:
``overtile.pipeline.segment_volume`` is ``pipeline.segment_volume``, and
``import overtile.pipeline`` imports ``pipeline``. ``python -m overtile`` is the command.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .aliases import PACKAGES, install_aliases

if TYPE_CHECKING:
    import deploy as deploy
    import pipeline as pipeline
    import unet as unet

    __version__: str

__all__ = ["__version__", "deploy", "pipeline", "unet"]

install_aliases()


def __getattr__(name: str) -> object:
    """Load a package, or read the installed version (PEP 562)."""
    if name in PACKAGES:
        return import_module(name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("overtile")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
