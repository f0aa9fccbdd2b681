"""Surfaces as files: PLY, Wavefront OBJ, and Neuroglancer's single-resolution meshes."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from .surface import Surface

MeshFormat: TypeAlias = Literal["ply", "obj", "precomputed"]

NEUROGLANCER_INFO: Final = b'{"@type": "neuroglancer_legacy_mesh"}'


def files_of(surface: Surface, identifier: int, kind: MeshFormat) -> Mapping[str, bytes]:
    """Return the files of an object by name, in the order in which they are to be written."""
    if kind == "ply":
        return {f"{identifier}.ply": ply_bytes(surface)}
    if kind == "obj":
        return {f"{identifier}.obj": obj_bytes(surface)}
    manifest = json.dumps({"fragments": [str(identifier)]}).encode()
    return {str(identifier): fragment_bytes(surface), f"{identifier}:0": manifest}


def last_file(identifier: int, kind: MeshFormat) -> str:
    """Return the name of the file whose presence states that an object is done."""
    return f"{identifier}:0" if kind == "precomputed" else f"{identifier}.{kind}"


def ply_bytes(surface: Surface) -> bytes:
    """Return a binary PLY file."""
    count, faces = len(surface.vertices), len(surface.triangles)
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {count}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {faces}\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    rows: np.ndarray[Any, Any] = np.empty(faces, [("count", "u1"), ("corners", "<u4", 3)])
    rows["count"], rows["corners"] = 3, surface.triangles
    return header.encode() + surface.vertices.astype("<f4").tobytes() + rows.tobytes()


def obj_bytes(surface: Surface) -> bytes:
    """Return a Wavefront OBJ file; its vertices are numbered from 1."""
    text = io.StringIO()
    np.savetxt(text, surface.vertices, fmt="v %.7g %.7g %.7g")
    np.savetxt(text, surface.triangles.astype(np.int64) + 1, fmt="f %d %d %d")
    return text.getvalue().encode()


def fragment_bytes(surface: Surface) -> bytes:
    """Return a fragment of Neuroglancer: count, vertices, triangles.

    https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md
    """
    count = np.array([len(surface.vertices)], "<u4").tobytes()
    corners = surface.triangles.astype("<u4").tobytes()
    return count + surface.vertices.astype("<f4").tobytes() + corners
