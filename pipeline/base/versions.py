"""The installed versions of overtile and of the packages that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

VERSION = version("overtile")

_PACKAGES = ("dask", "distributed", "numpy", "prefect", "torch", "zarr")


def versions() -> dict[str, str]:
    """Return the installed version of Python and of each package, by name."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
