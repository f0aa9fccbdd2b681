"""A remote store whose owner lets everybody read, but not list: absent keys are answered with 403.

Public buckets are often set up so (zarr-specs#289, fsspec#342). A denied key counts as absent if a
metadata document above it can still be read: then the rights are intact, and only the key is not
there. Expired credentials deny the documents too, so that no chunk is taken for fill values then.
A user who may list a bucket of S3 gets 404 for an absent key, so a denied one exists: it is an
error, and usually passes.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from .remote_store import RemoteStore
from .store_errors import is_denied

DOCUMENTS: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
ASK_AGAIN_S: Final = (0.0, 0.2, 0.6)
"""Pauses before each question whether keys may be listed: a refusal may pass."""
UNLISTED_S: Final = 60.0
"""How long an answer that they may not is used."""


class DeniedIsAbsentStore(RemoteStore):
    """A store for reading in which a denied key is absent, as long as its array can be read."""

    _may_list = False
    _unlisted_until = 0.0

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of a key, or None if it is absent. Raises if access is denied."""
        try:
            return await super().get(key, prototype, byte_range)
        except Exception as error:
            if not is_denied(error) or not await self._is_absent(key, prototype):
                raise
            if await self._may_list_beside(key):
                raise
            return None

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

    async def _may_list_beside(self, key: str) -> bool:
        """Return whether the keys beside this one may be listed; False where it is not S3."""
        protocols = self.fs.protocol
        if "s3" not in ((protocols,) if isinstance(protocols, str) else protocols):
            return False
        if self._may_list or time.monotonic() < self._unlisted_until:
            return self._may_list
        for pause_s in ASK_AGAIN_S:
            await asyncio.sleep(pause_s)
            if await self._is_listed(key.rpartition("/")[0]):
                self._may_list = True
                return True
        self._unlisted_until = time.monotonic() + UNLISTED_S
        return False

    async def _is_listed(self, folder: str) -> bool:
        bucket, path, _ = self.fs.split_path(f"{self.path}/{folder}")
        try:
            await self.fs._call_s3("list_objects_v2", Bucket=bucket, Prefix=path, MaxKeys=1)
        except Exception as error:
            if is_denied(error):
                return False
            raise
        return True

    async def _can_read(self, key: str, prototype: BufferPrototype) -> bool:
        try:
            return await super().get(key, prototype) is not None
        except Exception as error:
            if is_denied(error):
                return False
            raise
