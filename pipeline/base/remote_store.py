"""A remote Zarr store whose texts and errors show no secrets, wherever they are printed.

A worker logs the error of a task, and pickles it for the driver: it must be clean where it occurs.
"""

from __future__ import annotations

from collections.abc import Iterable

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore

from .redaction import clean_errors, redacted


class RemoteStore(FsspecStore):
    """A store behind fsspec."""

    def __repr__(self) -> str:
        return redacted(super().__repr__())

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the content of a key, or None if it is absent."""
        with clean_errors():
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the contents of parts of keys, None for those that are absent."""
        with clean_errors():
            return await super().get_partial_values(prototype, key_ranges)

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write the content of a key."""
        with clean_errors():
            await super().set(key, value, byte_range)

    async def delete(self, key: str) -> None:
        """Delete a key."""
        with clean_errors():
            await super().delete(key)
