"""The part of the predictor that needs torch: device, precision, the loaded model, the batches."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, WeightsError

from ..network.model import UNet
from ..weights.file import load_weights

if TYPE_CHECKING:
    from .predictor import UNetPredictor

THREADS_VARIABLE = "OVERTILE_TORCH_THREADS"
MODELS_KEPT = 2
_LOADING = threading.Lock()


def predict(predictor: UNetPredictor, x_nczyx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of ``UNetPredictor.__call__``."""
    config = predictor.config
    if x_nczyx.ndim != 5 or x_nczyx.shape[1] != config.in_channels:
        raise ConfigError(
            f"tiles of shape {x_nczyx.shape}: give (n, {config.in_channels}, z, y, x), "
            f"the weights have {config.in_channels} input channel(s)"
        )
    if config.dims == 3:
        return _in_sub_batches(predictor, x_nczyx)
    n, channels, z, y, x = x_nczyx.shape
    images_ncyx = np.moveaxis(x_nczyx, 2, 1).reshape(n * z, channels, y, x)
    scores_ncyx = _in_sub_batches(predictor, images_ncyx)
    return np.moveaxis(scores_ncyx.reshape(n, z, *scores_ncyx.shape[1:]), 1, 2)


def _in_sub_batches(predictor: UNetPredictor, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities (n, classes, *output) of images (n, channels, *input)."""
    shape = images.shape[2:]
    out_shape = predictor.config.output_shape(shape)
    device = settle_device(predictor.device)
    precision = settle_precision(predictor.precision, device)
    model = loaded_model(predictor.weights_uri, predictor.digest, str(device), precision)
    scores = np.empty((len(images), predictor.config.classes, *out_shape), np.float32)
    together = predictor.images_together(shape, images=len(images))
    for start in range(0, len(images), together):
        part = slice(start, start + together)
        scores[part] = _probabilities(model, images[part])
    return scores


def _probabilities(model: UNet, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over classes, in float32. Raises MemoryError where it does not fit."""
    # Tiles that came through Dask are read-only, which torch warns of: those are copied.
    batch = torch.from_numpy(np.require(images, np.float32, ["C", "W"]))
    weight = next(model.parameters())
    try:
        with torch.inference_mode():
            logits = model(batch.to(device=weight.device, dtype=weight.dtype))
            return logits.float().softmax(dim=1).cpu().numpy()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
    # Outside the handler: as long as the error is handled, its frames keep the tile's activations.
    if weight.is_cuda:
        torch.cuda.empty_cache()
    raise MemoryError(f"a tile of {images.shape} does not fit {weight.device}: {reason}")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch ran out of memory; on the CPU it says so in words only."""
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def loaded_model(uri: str, digest: str, device: str, precision: str) -> UNet:
    """Return the model, loaded once per process however many threads ask.

    Raises WeightsError where the file is no longer the one with this digest.
    """
    with _LOADING:
        return _load(uri, digest, device, precision)


@lru_cache(maxsize=MODELS_KEPT)
def _load(uri: str, digest: str, device: str, precision: str) -> UNet:
    model, info = load_weights(uri)
    if info.digest != digest:
        raise WeightsError(
            f"weights {uri!r} changed since the run was planned (digest {digest[:12]}, now "
            f"{info.digest[:12]}): put the old file back, or start a new run"
        )
    if THREADS_VARIABLE in os.environ:
        torch.set_num_threads(_thread_count(os.environ[THREADS_VARIABLE]))
    model.requires_grad_(False)
    if precision == "fp32":
        # Else cuDNN rounds float32 convolutions to TF32, and tiles differ from the whole by 1e-3.
        torch.backends.cudnn.allow_tf32 = False
        return model.to(device)
    layout = torch.channels_last if info.config.dims == 2 else torch.channels_last_3d
    model = model.to(device=device, dtype=torch.bfloat16)
    return model.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it


def settle_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` is in this process.

    Raises ConfigError for a GPU that is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if gpus else "cpu")
    settled = torch.device(device)
    if settled.type == "cuda" and (settled.index or 0) >= gpus:
        raise ConfigError(
            f"device {device!r} was asked for, and torch {torch.__version__} sees {gpus} GPU(s) "
            "here: start workers where there is one, or ask for device 'auto' or 'cpu'"
        )
    return settled


def device_memory_bytes() -> int:
    """Return the memory of this process's GPU, 0 where there is none."""
    if not torch.cuda.is_available():
        return 0
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def settle_precision(precision: str, device: torch.device) -> Literal["bf16", "fp32"]:
    """Return what ``auto`` is on this device: bf16 where it is native, else fp32."""
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulated, it would be slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _cpu_says("_is_avx512_bf16_supported") or _cpu_says("_is_amx_tile_supported")


def _cpu_says(question: str) -> bool:
    """Ask torch about the CPU; the questions are private, and differ from release to release."""
    ask = getattr(torch.cpu, question, None)
    return bool(ask()) if callable(ask) else False


def _thread_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{THREADS_VARIABLE} is {text!r}: give a number of threads, 1 or more")
    return int(text)
