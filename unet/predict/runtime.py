"""The part of the predictor that needs torch: device, precision, the loaded model, batches."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, WeightsError

from ..network.model import UNet
from ..weights.file import load_weights
from .convolution import fold_batch_norms, use_inference_convolutions
from .cpu_features import onednn_is_limited
from .forward import scores_of

THREADS_VARIABLE = "OVERTILE_TORCH_THREADS"
MODELS_KEPT = 2
_LOADING = threading.Lock()


def scores(model: UNet, images: NDArray[np.float32], *, together: int) -> NDArray[np.float32]:
    """Return the scores (n, classes, *output) of images (n, channels, *input).

    together: images that go through the network at once. Raises MemoryError where these do not fit
    the device, ConfigError for a shape that the network does not take.
    """
    config = model.config
    out_shape = config.output_shape(images.shape[2:])
    found = np.empty((len(images), config.classes, *out_shape), np.float32)
    for start in range(0, len(images), together):
        part = slice(start, start + together)
        found[part] = scores_of(model, images[part], model=model)
    return found


def loaded_model(uri: str, digest: str, device: str, precision: str) -> UNet:
    """Return the model, loaded once per process however many threads ask.

    Raises WeightsError where the file at ``uri`` no longer has this digest.
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
    fold_batch_norms(model)
    if precision == "fp32":
        # Else cuDNN rounds float32 convolutions to TF32, and tiles differ from the whole by 1e-3.
        torch.backends.cudnn.allow_tf32 = False
    else:
        model = model.to(torch.bfloat16)
    if device != "cpu" and precision == "fp32":  # there, no other layout was measured
        return model.to(device)
    layout = torch.channels_last if info.config.dims == 2 else torch.channels_last_3d
    model = model.to(device).to(memory_format=layout)  # type: ignore[call-overload]  # not in stubs
    if device == "cpu":
        use_inference_convolutions(model)
    return model


def settle_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` is in this process.

    Raises ConfigError for a GPU that does not exist.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if gpus else "cpu")
    settled = torch.device(device)
    if settled.type == "cuda" and (settled.index or 0) >= gpus:
        raise ConfigError(
            f"device {device!r} is not available: torch {torch.__version__} sees {gpus} GPU(s) on "
            "this machine; start workers on a machine with a GPU, or use device 'auto' or 'cpu'"
        )
    return settled


def device_memory_bytes() -> int:
    """Return the memory of this process's GPU, 0 where there is none."""
    if not torch.cuda.is_available():
        return 0
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def free_device_bytes(device: torch.device) -> int | None:
    """Return the memory of a GPU that is free or kept for reuse here; None for the processor."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + kept)


def settle_precision(precision: str, device: torch.device) -> Literal["bf16", "fp32"]:
    """Return the precision in which this device computes: ``auto`` is bf16 where it is native.

    Raises ConfigError for bf16 on a processor that torch has no bfloat16 convolutions for.
    """
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if precision != "bf16":
        return "fp32"
    if not has_bf16_convolutions(device):
        raise ConfigError(
            "precision bf16: torch has no bfloat16 convolutions for this processor (on x86 they "
            "need AVX-512); emulated, they take 20 times as long as float32 and 8 times the "
            "memory: use precision auto or fp32"
        )
    return "bf16"


def has_native_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 in hardware, where it is faster than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(map(_cpu_says, asked)) and not onednn_is_limited() and has_bf16_convolutions(device)


def has_bf16_convolutions(device: torch.device) -> bool:
    """Return whether torch has bfloat16 convolutions for the device, be they fast or not.

    On a processor they are oneDNN's, from AVX-512 on. Without the bfloat16 instructions they take
    1.5 to 2.4 times as long as float32 (torch 2.13, ``ONEDNN_MAX_CPU_ISA=AVX512_CORE``). On AVX2
    torch falls back to its own loops: 20 times as long, and 7.8 times the memory that is stated.
    """
    if device.type == "cuda":
        return True
    # Private, as are all of torch's questions about the processor; it is there since torch 1.12.
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(ask()) if ask is not None else _cpu_says("_is_avx512_bf16_supported")


def _cpu_says(question: str) -> bool:
    """Ask torch about the processor; the questions are private, and differ between releases."""
    ask = getattr(torch.cpu, question, None)
    return bool(ask()) if callable(ask) else False


def _thread_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{THREADS_VARIABLE} is {text!r}: expected an integer of at least 1")
    return int(text)
