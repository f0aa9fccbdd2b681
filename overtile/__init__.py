"""The three packages under one name: ``overtile.pipeline``, ``overtile.unet``, ``overtile.deploy``.

They are the packages ``pipeline``, ``unet`` and ``deploy``, loaded when they are first used:
``overtile.pipeline.segment_volume`` is ``pipeline.segment_volume``. ``python -m overtile`` is the
command ``overtile``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import deploy as deploy
    import pipeline as pipeline
    import unet as unet

    __version__: str

__all__ = ["__version__", "deploy", "pipeline", "unet"]


def __getattr__(name: str) -> object:
    """Load a package, or read the installed version (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("overtile")
    return import_module(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
