"""The commands of the suite on volumes that take a second or two, and what each promises.

Promised are the bytes of the arrays, their metadata and the table of objects; of a training the
tensors of its weights; of an evaluation its figures. Times differ between runs, so the ledger, the
report, the provenance of weights and the seconds of an evaluation are not compared.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

SHAPE, BLOCK = (8, 32, 96), (4, 16, 16)
BLOCKS = 2 * 2 * 6
STEPS = 12
CONFIG = f"""
network = {{ dims = 2, base_channels = 2, levels = 2 }}
[training]
steps = {STEPS}
batch = 1
patch = [16, 16]
precision = "fp32"
checkpoint_every = 2
augment = {{ elastic_sigma = 1.0 }}
"""

Content = Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """One command. words: of an output, for the inputs in a folder."""

    name: str
    words: Callable[[Path, Path], list[str]]
    promised: Callable[[Path], Content]
    output: str = "out.zarr"
    resumes: bool = True
    """Whether it keeps finished work when it is stopped."""

    def files(self, output: Path) -> int:
        """Return how many files it has written: how far it is."""
        folder = output.with_suffix(".training") if self.name == "train" else output
        return sum(len(names) for _, _, names in os.walk(folder))


def stored(output: Path) -> Content:
    """Return every file of an OME-Zarr output but those of its ledger and its report."""
    paths = (path for path in output.rglob("*") if path.is_file() and path.suffix != ".partial")
    named = {str(path.relative_to(output)): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if name.split("/")[0] != "run"}


def tensors(weights: Path) -> Content:
    """Return the tensors of a safetensors file, each with its dtype and shape."""
    content = weights.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header, values = json.loads(content[8 : 8 + size]), content[8 + size :]
    header.pop("__metadata__", None)
    return {
        f"{name} {entry['dtype']} {entry['shape']}": values[slice(*entry["data_offsets"])]
        for name, entry in header.items()
    }


def figures(file: Path) -> Content:
    """Return the figures of an evaluation."""
    values = json.loads(file.read_text())
    for name in ("seconds", "versions"):
        values.pop(name)
    return {name: json.dumps(value).encode() for name, value in values.items()}


def _segment(inputs: Path, output: Path) -> list[str]:
    return [
        "segment", str(inputs / "raw.zarr"), str(output), "--weights", str(weights_in(inputs)),
        "--precision", "fp32", "--block", _comma(BLOCK), "--outputs", "classes,scores",
        "--scores-dtype", "float32", "--workers", "2",
    ]  # fmt: skip


def _objects(inputs: Path, output: Path) -> list[str]:
    return [
        "objects", str(inputs / "scores.zarr"), str(output), "--class", "membrane", "--method",
        "watershed", "--depth", "0.1", "--block", "4,16,32", "--workers", "2",
    ]  # fmt: skip


def _convert(inputs: Path, output: Path) -> list[str]:
    return [
        "convert", str(inputs / "raw.zarr"), str(output), "--shard", _comma(BLOCK), "--chunk",
        "4,16,16", "--workers", "2",
    ]  # fmt: skip


def _evaluate(inputs: Path, output: Path) -> list[str]:
    return [
        "evaluate", str(inputs / "labels.zarr"), str(inputs / "truth.zarr"), "--json", str(output),
        "--workers", "2",
    ]  # fmt: skip


def _train(inputs: Path, output: Path) -> list[str]:
    return [
        "train", "--volume", str(inputs / "raw.zarr"), "--labels", str(inputs / "labels.zarr"),
        "--config", str(inputs / "config.toml"), "--out", str(output), "--ranks", "1", "--resume",
    ]  # fmt: skip


COMMANDS = {
    one.name: one
    for one in (
        Small(name="segment", words=_segment, promised=stored),
        Small(name="objects", words=_objects, promised=stored),
        Small(name="convert", words=_convert, promised=stored),
        Small(name="train", words=_train, promised=tensors, output="out.safetensors"),
        Small(name="evaluate", words=_evaluate, promised=figures, output="out.json", resumes=False),
    )
}


def weights_in(inputs: Path) -> Path:
    """Return the weights of the segmentation."""
    return inputs / "weights.safetensors"


def make_inputs(words: list[str]) -> None:
    """Write the inputs of all commands into the folder ``words[0]``; needs torch."""
    inputs = Path(words[0])
    raw = textured(SHAPE, seed=1)
    store(inputs / "raw.zarr", raw)
    store(inputs / "labels.zarr", (raw > 128).astype("u1"))
    store(inputs / "truth.zarr", (textured(SHAPE, seed=2) // 4 + raw // 2 > 96).astype("u1"))
    cell = textured(SHAPE, seed=5)
    store_scores(inputs / "scores.zarr", np.stack([cell, 255 - cell]))
    (inputs / "config.toml").write_text(CONFIG)
    save_network(weights_in(inputs))


def textured(shape: tuple[int, ...], *, seed: int) -> NDArray[np.uint8]:
    """Return a smooth, noisy image without two like places."""
    random = np.random.default_rng(seed)
    array = random.normal(size=shape)
    for axis in range(array.ndim):
        array = array + np.roll(array, 1, axis) + np.roll(array, -1, axis)
    scaled = (array - array.min()) / np.ptp(array)
    return np.asarray(scaled * 255, np.uint8)


def store(path: Path, array: NDArray[Any]) -> None:
    """Write a Zarr array in small chunks with checksums, so that a flipped bit is detected."""
    zarr.create_array(
        path, data=array, chunks=(4, 16, 32), dimension_names=("z", "y", "x"),
        compressors=[ZstdCodec(), Crc32cCodec()],
    )  # fmt: skip


def store_scores(path: Path, czyx: NDArray[Any], **options: Any) -> None:
    """Write scores as an OME-Zarr image with named classes. options: of the array."""
    root = zarr.create_group(path)
    codecs = [ZstdCodec(), Crc32cCodec()]
    root.create_array("0", data=czyx, chunks=(1, 4, 16, 32), compressors=codecs, **options)
    space = {"type": "space", "unit": "micrometer"}
    scale = {"type": "scale", "scale": [1.0, 1.0, 0.5, 0.5]}
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{
            "axes": [{"name": "c", "type": "channel"}, *({"name": a, **space} for a in "zyx")],
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }],
        "omero": {"channels": [{"label": "cell"}, {"label": "membrane"}]},
    }  # fmt: skip
    root.attrs["ome"] = ome


def save_network(path: Path) -> None:
    """Write the weights of a small network whose scores vary."""
    import torch

    from unet import UNet, UNetConfig, save_weights

    torch.manual_seed(7)
    model = UNet(UNetConfig(dims=3, base_channels=4, levels=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    save_weights(model, path, normalisation={"kind": "range", "low": 0, "high": 255})


def _comma(sizes: tuple[int, ...]) -> str:
    return ",".join(map(str, sizes))
