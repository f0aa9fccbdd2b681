"""A store for writing whole shards: it reads none of them, and keeps a digest of each.

Zarr (3.1) reads an existing shard before it writes one, even where every voxel of it is replaced. A
file that a crash has torn could then never be written again, and voxels past the volume's edge
would depend on what was stored before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from .denied_is_absent import DOCUMENTS


class ShardStore(WrapperStore[Store]):
    """Shows the documents of a store and none of its chunks; writes all."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._digests: dict[str, bytes] = {}

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of a document; None for any other key."""
        if key.rpartition("/")[2] in DOCUMENTS:
            return await self._store.get(key, prototype, byte_range)
        return None

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file, and keep its digest until it is taken."""
        await self._store.set(key, value)
        self._digests[key] = await asyncio.to_thread(content_digest, value)

    def take(self, key: str) -> bytes | None:
        """Return the digest of a file that was written since the last call; None: it was not."""
        return self._digests.pop(key, None)


def content_digest(content: Buffer) -> bytes:
    """Return the digest of the bytes of one file."""
    return hashlib.blake2b(content.as_buffer_like(), digest_size=16).digest()


def digest_of_files(digests: Iterable[tuple[str, bytes | None]]) -> int:
    """Return the digest of several files, from their names and digests: 64 bits, never 0.

    None: the file is absent, because all of its voxels are 0.
    """
    whole = hashlib.blake2b(digest_size=8)
    for name, digest in digests:
        whole.update(f"{name}:{digest.hex() if digest else 'absent'}\n".encode())
    return int.from_bytes(whole.digest(), "big") or 1
