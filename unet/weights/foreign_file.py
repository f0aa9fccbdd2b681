"""Names the format of a model file that is not overtile's, from its first bytes. Opens nothing.

Sources: PyTorch's serialization notes (torch.save, torch.jit.save, torch.export), the bioimage.io
model specification, ONNX's and TensorFlow's protocol buffers, and the magic numbers of containers.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import BinaryIO, Final

PICKLE: Final = "a pickle (torch.save), which can run any code and is never opened"
OTHER_MODEL: Final = (
    "overtile runs only its own U-Nets from a file; to run any other network, see "
    "docs/your-own-model.md"
)
LOAD_IT: Final = (
    "if it holds an overtile UNet that you trust, load it yourself and write it with "
    "unet.save_weights; to run any other network, see docs/your-own-model.md"
)
UNPACK_IT: Final = "unpack it and pass the weights file inside it"

_HEADS: Final = (
    (b"ccopy_reg\n", PICKLE, LOAD_IT),
    (b"ccollections\n", PICKLE, LOAD_IT),
    (b"(dp", PICKLE, LOAD_IT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, or an ilastik project)", OTHER_MODEL),
    (b"\x93NUMPY", "a NumPy array (.npy)", OTHER_MODEL),
    (b"GGUF", "a GGUF model", OTHER_MODEL),
    (b"MATLAB 5.0", "a MATLAB file", OTHER_MODEL),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull"),
    (b"\x1f\x8b", "a gzip archive", UNPACK_IT),
    (b"BZh", "a bzip2 archive", UNPACK_IT),
    (b"\xfd7zXZ\x00", "an xz archive", UNPACK_IT),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK_IT),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK_IT),
    (b"Rar!", "a RAR archive", UNPACK_IT),
    (b"\x08\x01\x12", "a TensorFlow model (saved_model.pb)", OTHER_MODEL),
)
_PARTS: Final = (
    (("rdf.yaml", "bioimageio.yaml"), "a bioimage.io model package"),
    (("saved_model.pb",), "a TensorFlow model"),
    (("model.weights.h5",), "a Keras model"),
    (("plans.json", "dataset.json"), "an nnU-Net model"),
    (("serialized_exported_program.json", "archive_format"), "a PyTorch program (torch.export)"),
    (("constants.pkl",), "a TorchScript model (torch.jit.save)"),
    (("MANIFEST.json",), "a TorchServe archive"),
    (("model.mlmodel",), "a Core ML model"),
    (("zarr.json", ".zgroup", ".zarray"), "Zarr"),
)
"""Formats by the name of a file in an archive or folder."""
_TEXTS: Final = (((b"<?xml", b"<net"), "an XML text"), ((b"{", b"["), "a JSON text"))
_SUFFIXES: Final = {
    ".onnx": "an ONNX model",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite model",
    ".engine": "a TensorRT engine",
    ".trt": "a TensorRT engine",
    ".msgpack": "a Flax model",
    ".caffemodel": "a Caffe model",
    ".mlmodel": "a Core ML model",
}


def describe(name: str, content: bytes, file: BinaryIO | None = None) -> tuple[str, str] | None:
    """Return what a file is and what to do with it, or None if it is not a known format.

    content: all of it or, with the opened ``file`` itself, its first bytes, nine at least.
    """
    if content[:2] == b"PK":
        return _describe_zip(io.BytesIO(content) if file is None else file)
    if (found := _described_by_head(name, content)) is not None:
        return found
    kind = _SUFFIXES.get(PurePosixPath(name).suffix.lower())
    return (kind, OTHER_MODEL) if kind else _describe_text(content)


def describe_parts(names: Collection[str]) -> str | None:
    """Return the format that the files of an archive or folder show, or None."""
    inside = {PurePosixPath(name).name for name in names}
    return next((kind for parts, kind in _PARTS if inside & set(parts)), None)


def _described_by_head(name: str, content: bytes) -> tuple[str, str] | None:
    if content[:1] == b"\x80" and content[1] <= 5:
        return PICKLE, LOAD_IT
    if content[257:262] == b"ustar":
        return "a tar archive", UNPACK_IT
    if content[4:8] == b"TFL3":
        return "a TensorFlow Lite model", OTHER_MODEL
    is_onnx = content[0] == 8 and 2 <= content[1] <= 32 and content[2] in (0x12, 0x1A, 0x22, 0x3A)
    if is_onnx or name.lower().endswith(".onnx"):
        return "an ONNX model", OTHER_MODEL
    return next(((kind, advice) for head, kind, advice in _HEADS if content.startswith(head)), None)


def _describe_zip(file: BinaryIO) -> tuple[str, str]:
    """Return what an archive is, by the names in its list; no part of it is unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises errors of many kinds for a damaged list
        return "a truncated or damaged zip archive", "copy or download it again"
    if (kind := describe_parts(names)) is not None:
        return kind, OTHER_MODEL
    if any(name.endswith("data.pkl") for name in names):
        return PICKLE, LOAD_IT
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)", OTHER_MODEL
    return "a zip archive", UNPACK_IT


def _describe_text(content: bytes) -> tuple[str, str] | None:
    """Return what a text file is: a page, a description of a model; None for anything else."""
    start = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    lowered = start.lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a file", "log in, or take the address of the download itself"
    kind = next((kind for heads, kind in _TEXTS if lowered.startswith(heads)), None)
    if b"format_version:" in lowered and b"type: model" in lowered:
        kind = "the description of a bioimage.io model"
    return (kind, OTHER_MODEL) if kind else None
