"""A remote store whose owner lets everybody read, but not list: absent keys are answered with 403.

Public buckets are often set up so (zarr-specs#289, fsspec#342). A denied key counts as absent if a
metadata document above it can still be read: then the rights are intact, and only the key is not
there. Expired credentials deny the documents too, so that no chunk is taken for fill values then.
"""

from __future__ import annotations

from typing import Final

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from .remote_store import RemoteStore
from .store_errors import is_denied

DOCUMENTS: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


class DeniedIsAbsentStore(RemoteStore):
    """A store for reading in which a denied key is absent, as long as its array can be read."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of a key, or None if it is absent. Raises if access is denied."""
        try:
            return await super().get(key, prototype, byte_range)
        except Exception as error:
            if is_denied(error) and await self._is_absent(key, prototype):
                return None
            raise

    async def _is_absent(self, key: str, prototype: BufferPrototype) -> bool:
        folder, _, name = key.rpartition("/")
        if name in DOCUMENTS:  # one of several kinds of a node's document; read_node checks them
            return True
        while True:  # asked after every denial, for credentials may expire at any moment
            for document in ("zarr.json", ".zarray"):
                if await self._can_read(f"{folder}/{document}".lstrip("/"), prototype):
                    return True
            if not folder:
                return False
            folder = folder.rpartition("/")[0]

    async def _can_read(self, key: str, prototype: BufferPrototype) -> bool:
        try:
            return await super().get(key, prototype) is not None
        except Exception as error:
            if is_denied(error):
                return False
            raise
