"""Weights files: tensors and the metadata that prediction needs. Nothing is ever unpickled.

A file is a plain safetensors file. Each entry of its metadata is a JSON text:

    overtile_weights   version of this format
    config             UNetConfig.to_dict()
    class_names        one per output channel; of classes, class 0 is background
    outputs, offsets, activation   what the channels are; absent of classes, see NetworkOutputs
    normalisation      how grey values were normalised in training; absent if not known
    voxel_size_um      of the training's volumes, in µm, one per axis of the network; may be absent
    input_percentiles  1, 50 and 99 of the network's input in training, per channel; may be absent
    provenance         free-form

Its digest is the SHA-256 of the whole file; the same weights always give the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from pipeline.base.checked import shown
from pipeline.base.errors import ConfigError, WeightsError
from pipeline.base.json_text import json_value
from pipeline.base.location import check_text
from pipeline.base.network_outputs import CLASSES, NetworkOutputs
from pipeline.base.store_errors import one_line, redacted

from ..network.config import UNetConfig
from ..network.cost import tensor_shapes
from . import safetensors_header as header
from . import training_facts as facts
from .foreign_file import LOAD_IT
from .location import read_bytes, settle_uri

if TYPE_CHECKING:
    from ..network.model import UNet

FORMAT_VERSION = 1
FORMAT_KEY = "overtile_weights"
DTYPES = {"F32": "float32", "F16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsInfo:
    """What a weights file states about itself."""

    config: UNetConfig
    class_names: tuple[str, ...]
    normalisation: Mapping[str, Any] | None = field(hash=False)
    provenance: Mapping[str, Any] = field(hash=False)
    digest: str
    """SHA-256 of the file, in hex."""
    size_bytes: int
    parameters: int
    dtype: str
    """How the tensors are stored, ``float32`` or ``float16``; not the precision of prediction."""
    voxel_size_um: tuple[float, ...] | None = None
    """Voxel size of the training's volumes in µm, per axis of the network: (z,) y, x."""
    input_percentiles: Mapping[str, Sequence[float]] | None = field(default=None, hash=False)
    """Percentiles 1, 50 and 99 of the network's input in training, each per channel."""
    outputs: NetworkOutputs = CLASSES
    """What the channels are; offsets have the axes of the network."""


def save_weights(
    model: UNet,
    path: str | os.PathLike[str],
    *,
    normalisation: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    voxel_size_um: Sequence[float] | None = None,
    input_percentiles: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Write ``model`` to a local ``path``, atomically: a reader sees the old file or the new one.

    Class names default to "background", "class 1", …, or to those of the outputs. voxel_size_um:
    of the training's volumes, per axis of the network. input_percentiles: ``{"1": …, "50": …,
    "99": …}``, each per channel. Raises WeightsError for a wrong number of names or sizes, records
    that are not JSON, and values that are not finite (in ``dtype``).
    """
    import torch
    from safetensors.torch import save

    if dtype not in DTYPES.values():
        raise WeightsError(f"dtype is {dtype!r}: expected float32 or float16")
    names = _checked_names(class_names, model.config, model.outputs)
    metadata = {
        FORMAT_KEY: FORMAT_VERSION,
        "config": model.config.to_dict(),
        "class_names": names,
        "provenance": dict(provenance or {}),
        **({} if model.outputs == CLASSES else model.outputs.to_json()),
        **facts.as_metadata(model.config, voxel_size_um, input_percentiles),
    }
    if normalisation is not None:
        metadata["normalisation"] = dict(normalisation)
    tensors = {
        name: (
            tensor.detach().to(device="cpu", dtype=getattr(torch, dtype)).contiguous()
            if tensor.is_floating_point()
            else tensor.detach().cpu()
        )
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(
                f"tensor {name} has values that are not finite in {dtype}: nothing was saved"
            )
    texts = {key: _to_json(key, value) for key, value in metadata.items()}
    _write_atomically(Path(path), header.with_sorted_metadata(save(tensors, metadata=texts)))


def copy_with_voxel_size(
    uri: str | os.PathLike[str], path: str | os.PathLike[str], voxel_size_um: Sequence[float]
) -> None:
    """Write a copy of a weights file that states a voxel size; the copy has another digest.

    uri: as for :func:`read_weights_info`. path: of the copy, local. voxel_size_um: z, y, x; of a
    2-D network also y, x. Raises WeightsError, also where ``path`` exists.
    """
    check_text(os.fspath(path), kind=WeightsError)
    place = settle_uri(uri)
    content = read_bytes(place)
    config = _info(redacted(place), content).config
    if os.path.exists(path):
        raise WeightsError(f"{str(path)!r} exists already: choose another path for the copy")
    stated = facts.as_metadata(config, tuple(voxel_size_um)[-config.dims :], None)
    texts = {key: _to_json(key, value) for key, value in stated.items()}
    _write_atomically(Path(path), header.with_sorted_metadata(content, **texts))


def read_weights_info(uri: str | os.PathLike[str]) -> WeightsInfo:
    """Return what the weights file states about itself, without torch.

    uri: a local path, a URI that fsspec knows (s3://, https://, …), or a bundled name.
    Raises WeightsError for a file that is missing, truncated, of another format, or that does not
    match its config.
    """
    place = settle_uri(uri)
    return _info(redacted(place), read_bytes(place))


def load_weights(uri: str | os.PathLike[str]) -> tuple[UNet, WeightsInfo]:
    """Return the model (float32, on the CPU, in evaluation mode) and what its file states.

    Raises WeightsError as ``read_weights_info``, and for tensors that are not finite.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ..network.model import UNet

    place = settle_uri(uri)
    content = read_bytes(place)
    info = _info(redacted(place), content)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise header.damaged(redacted(place), one_line(str(error))) from error
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(
                f"weights {redacted(place)!r}: tensor {name} has NaN or infinite values; "
                "take an earlier checkpoint of the training"
            )
    with torch.device("meta"):  # skips the initialisation
        model = UNet(info.config, info.outputs)
    floats = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    model.load_state_dict(floats, assign=True)
    return model.eval(), info


def _info(uri: str, content: bytes) -> WeightsInfo:
    tensors, metadata = header.read(uri, content)
    if FORMAT_KEY not in metadata:
        raise WeightsError(
            f"weights {uri!r} are a safetensors file without overtile's metadata: {LOAD_IT}"
        )
    try:
        record = {key: json_value(text) for key, text in metadata.items()}
        config = UNetConfig.from_dict(record["config"])
        version, names = record[FORMAT_KEY], record["class_names"]
        provenance, normalisation = record["provenance"], record.get("normalisation", {})
        voxel_size_um = facts.voxel_size_of(record, config)
        percentiles = facts.percentiles_of(record, config)
        outputs = NetworkOutputs.from_json(record)
        class_names = _checked_names(names, config, outputs)
        if not isinstance(provenance, dict) or not isinstance(normalisation, dict):
            raise TypeError("expected JSON objects for provenance and normalisation")
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        is_plain = isinstance(error, ConfigError | WeightsError)
        text = str(error) if is_plain else f"{type(error).__name__}: {error}"
        reason = one_line(text)
        raise WeightsError(
            f"cannot read the metadata of weights {uri!r} ({reason}): write them again with "
            "unet.save_weights"
        ) from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"weights {uri!r} have format {shown(version)}: expected {FORMAT_VERSION}; update "
            "overtile, or write them again with this version"
        )
    _check_tensors(uri, tensors, config)
    stored = {entry.dtype for name, entry in tensors.items() if name.endswith(".weight")}
    return WeightsInfo(
        config=config,
        class_names=class_names,
        normalisation=normalisation if "normalisation" in record else None,
        provenance=provenance,
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        parameters=config.parameters,
        dtype=_dtype_name(uri, stored),
        voxel_size_um=voxel_size_um,
        input_percentiles=percentiles,
        outputs=outputs,
    )


def _check_tensors(uri: str, tensors: Mapping[str, header.TensorEntry], config: UNetConfig) -> None:
    """Raise WeightsError if the file's tensors do not match its config."""
    wanted = tensor_shapes(config)
    found = {name: entry.shape for name, entry in tensors.items()}
    problems = {
        "missing": sorted(set(wanted) - set(found)),
        "unexpected": sorted(set(found) - set(wanted)),
        "of a wrong shape": [
            f"{name} {found[name]}, expected {shape}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ],
    }
    texts = [f"{len(names)} {kind} ({names[0]})" for kind, names in problems.items() if names]
    if texts:
        raise WeightsError(
            f"weights {uri!r} do not match their config: tensors {', '.join(texts)}; "
            "write them again with unet.save_weights"
        )


def _dtype_name(uri: str, stored: set[str]) -> str:
    if len(stored) != 1 or not stored <= set(DTYPES):
        raise WeightsError(
            f"weights {uri!r} are stored as {', '.join(sorted(stored))}: expected F32 or F16; "
            "write them again with unet.save_weights"
        )
    return DTYPES[stored.pop()]


def _checked_names(
    names: Sequence[str] | None, config: UNetConfig, outputs: NetworkOutputs
) -> tuple[str, ...]:
    """Return the names of the output channels. Raises WeightsError, ConfigError."""
    outputs.check_network(channels=config.classes, dims=config.dims)
    if names is None:
        others = (f"class {number}" for number in range(1, config.classes))
        return outputs.names or ("background", *others)
    if not isinstance(names, list | tuple) or len(names) != config.classes:
        order = "one per class, background first" if outputs.has_classes else "one per channel"
        raise WeightsError(f"class names {shown(names)}: expected {config.classes}, {order}")
    return tuple(str(name) for name in names)


def _to_json(key: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"cannot write {key} as JSON ({error}): {value!r}") from error


def _write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside it, then rename: a reader always sees a complete file."""
    aside = path.with_name(f".{path.name[:40]}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(
            f"cannot write weights to {str(path)!r} ({reason}): choose another path"
        ) from error
