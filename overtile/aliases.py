"""Makes ``import overtile.pipeline.volume`` the module ``pipeline.volume``, and not a copy of it.

A second import of a package under another name would make a second class of every class. So names
below ``overtile`` are found before Python looks for files, and lead to the modules themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Final

PACKAGES: Final = ("deploy", "pipeline", "unet")
_ABOVE: Final = "overtile."


class _Alias(Loader):
    """Loads a module under its own name, and lists it under the alias too."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make a module, which :meth:`exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(module.__name__.removeprefix(_ABOVE))


class _Aliases(MetaPathFinder):
    """Finds the modules of the packages below ``overtile``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(_ABOVE)
        if name == fullname or name.partition(".")[0] not in PACKAGES:
            return None
        own = find_spec(name)
        if own is None:
            return None
        is_package = own.submodule_search_locations is not None
        return ModuleSpec(fullname, _Alias(), origin=own.origin, is_package=is_package)


def install_aliases() -> None:
    """Let Python find the aliases; calling it again changes nothing."""
    if not any(isinstance(finder, _Aliases) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Aliases())
