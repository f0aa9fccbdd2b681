"""What the fork server imports for workers. An error is not shown: the driver meets the same one.

For example, a Dask configuration that cannot be read.
"""

from contextlib import suppress
from importlib import import_module

with suppress(Exception):
    for _name in ("distributed.nanny", "distributed.worker", "zarr"):
        import_module(_name)
