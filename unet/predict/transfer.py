"""Arrays to a device and back, beside its computations.

On a GPU, of three slabs that follow each other, the device computes one while the next goes up and
the last comes down::

    upload     0 1 2 3            from pinned memory, on a second stream
    compute      0 1 2 3          on the current stream
    download       0 1 2 3        to pinned memory, on a third stream
    host gets        0 1 2 3

On a processor the same calls are made in the same order, and nothing is copied.
No GPU was available when this was written: see docs/performance-details.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .forward import within_memory

Arrays: TypeAlias = tuple[NDArray[Any], ...]
Compute: TypeAlias = Callable[[Tensor], tuple[Tensor, ...] | None]
"""From an array on the device to results there, or None; called in inference mode."""


class Transfer(Protocol):
    """Moves arrays; only ``arrays`` and ``wait`` wait for the device."""

    device: torch.device

    def upload(self, array: NDArray[Any]) -> Any:
        """Begin to move an array, of any byte order, to the device."""

    def arrived(self, upload: Any) -> Tensor:
        """Return the array on the device, for what is computed from here on."""

    def download(self, results: tuple[Tensor, ...]) -> Any:
        """Begin to move results to the host, once they are computed."""

    def arrays(self, download: Any) -> Arrays:
        """Wait for results, and return them."""

    def mark(self) -> Any:
        """Return a mark behind what is computed so far."""

    def wait(self, mark: Any) -> None:
        """Wait until all that lies before a mark is computed."""


def streamed(
    source: Iterable[NDArray[Any]],
    compute: Compute,
    transfer: Transfer,
    *,
    shape: tuple[int, ...],
) -> Iterator[Arrays]:
    """Yield what ``compute`` gives for each array for which it gives something, in order.

    source: is asked for the next array once the present one is computed (on a GPU: once that has
    begun, and the one before it is done: two arrays wait on the device at most, also where nothing
    comes down). Raises MemoryError where the arrays, of a tile of this shape, do not fit.
    """
    within = partial(within_memory, shape=shape, device=transfer.device)
    arrays = iter(source)

    def upload_of_next() -> Any:
        array = next(arrays, None)
        return None if array is None else within(partial(transfer.upload, array))

    def results_of(upload: Any) -> Any:
        results = compute(transfer.arrived(upload))
        return None if results is None else transfer.download(results)

    coming, before, ahead = None, None, upload_of_next()
    while ahead is not None:
        going = within(partial(results_of, ahead))
        begun = transfer.mark()
        if before is not None:
            transfer.wait(before)
        before = begun
        ahead = upload_of_next()
        if coming is not None:
            yield transfer.arrays(coming)
        coming = going
    if coming is not None:
        yield transfer.arrays(coming)


@cache
def transfer_to(device: torch.device) -> Transfer:
    """Return how arrays reach this device; always the same, whose streams reuse their memory."""
    return CudaTransfer(device) if device.type == "cuda" else HostTransfer(device)


class HostTransfer:
    """Shares the memory of arrays; nothing runs beside the computation."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def upload(self, array: NDArray[Any]) -> Tensor:
        """Return the array as a tensor, a copy only where torch takes no view of it."""
        native = np.asarray(array, array.dtype.newbyteorder("="))
        if not native.flags.writeable or any(stride < 0 for stride in native.strides):
            native = native.copy()
        return torch.from_numpy(native)

    def arrived(self, upload: Tensor) -> Tensor:
        """Return the tensor."""
        return upload

    def download(self, results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the results."""
        return results

    def arrays(self, download: tuple[Tensor, ...]) -> Arrays:
        """Return the results as arrays."""
        return tuple(result.numpy() for result in download)

    def mark(self) -> None:
        """Return nothing: what was called is computed."""

    def wait(self, mark: None) -> None:
        """Return at once."""


@dataclass(frozen=True, slots=True)
class _Moving:
    """Tensors where they are going to, and when they are there."""

    tensors: tuple[Tensor, ...]
    event: torch.cuda.Event


class CudaTransfer:
    """Copies from and to pinned memory, with a stream per direction.

    torch keeps pinned and device memory that is freed and gives it out again for the same shape,
    after what streams still do with it. All slabs of a sweep but the last have one shape.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def upload(self, array: NDArray[Any]) -> _Moving:
        """Copy the array to pinned memory, and begin to copy this to the device."""
        dtype = torch.from_numpy(np.empty(0, array.dtype.newbyteorder("="))).dtype
        with torch.cuda.stream(self._up):  # and its device, for which memory is pinned
            pinned = torch.empty(array.shape, dtype=dtype, pin_memory=True)
            np.copyto(pinned.numpy(), array)
            there = pinned.to(self.device, non_blocking=True)
            return _Moving((there,), self._up.record_event())

    def arrived(self, upload: _Moving) -> Tensor:
        """Make what is computed from here on wait for the copy."""
        computing = torch.cuda.current_stream(self.device)
        computing.wait_event(upload.event)
        (there,) = upload.tensors
        there.record_stream(computing)  # its memory is not reused before this stream is done
        return there

    def download(self, results: tuple[Tensor, ...]) -> _Moving:
        """Begin to copy results to pinned memory after what is computed so far."""
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._down):
            pinned = []
            for result in results:
                here = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
                pinned.append(here.copy_(result, non_blocking=True))
                result.record_stream(self._down)
            return _Moving(tuple(pinned), self._down.record_event())

    def arrays(self, download: _Moving) -> Arrays:
        """Wait for the copies; the arrays own their pinned memory."""
        download.event.synchronize()
        return tuple(here.numpy() for here in download.tensors)

    def mark(self) -> torch.cuda.Event:
        """Return an event behind what the current stream of the device was given so far."""
        return torch.cuda.current_stream(self.device).record_event()

    def wait(self, mark: torch.cuda.Event) -> None:
        """Wait for the event."""
        mark.synchronize()
