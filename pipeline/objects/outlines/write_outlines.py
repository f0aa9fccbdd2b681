"""Writes the outlines of all objects of an output as one GeoJSON file."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from ...base.errors import OutputError, VolumeError
from ...base.location import Location
from ...base.stores import list_names
from ...output.atomic_file import AtomicFile
from ...output.guard import check_apart, check_place
from ...volume.volume import open_volume
from ..table.finished import FinishedObjects
from .geojson import BEGIN, END, features
from .pixel_grid import PixelGrid
from .read_outlines import outlines_of

ROWS_AT_ONCE: Final = 2**14
"""Objects whose features are in memory at once: about 30 MB of text for nuclei."""
ENDINGS: Final = (".geojson", ".json", ".geojson.gz", ".json.gz")
_GZIP: Final = 31
"""zlib's bits of the window, plus 16 for gzip's header. The header has no time."""

OnObjects = Callable[[int, int], None]
"""Called now and then with the number of objects that are done, and of all."""


def check_outlines(objects: FinishedObjects, target: Location, *, overwrite: bool) -> None:
    """Raise VolumeError or OutputError unless outlines of the objects can be written to a file."""
    if not objects.is_flat:
        raise VolumeError(
            f"{objects.output} has objects in three dimensions: outlines are those of slides, and "
            "of --per-slice; for volumes, see overtile meshes"
        )
    if not target.name.lower().endswith(ENDINGS):
        raise OutputError(f"{target}: expected a name that ends in {' or '.join(ENDINGS[::2])}")
    check_apart(target, objects.output)
    if target.is_local and target.path.is_dir():
        raise OutputError(f"{target} is a folder: choose another file")
    if not target.is_local or not target.path.exists():
        check_place(target)
    parent = target.parent
    if not overwrite and parent is not None and target.name in (list_names(parent) or ()):
        raise OutputError(f"{target} exists: choose another file, or replace it with --overwrite")


def write_outlines(
    objects: FinishedObjects, target: Location, *, grid: PixelGrid, on_objects: OnObjects
) -> int:
    """Write the file, whole or not at all; return the number of objects.

    An ending ``.gz`` compresses it. Equal objects give equal bytes. Raises OutputError and
    VolumeError.
    """
    labels = open_volume(objects.labels)
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP) if target.name.endswith(".gz") else None
    done = 0
    with AtomicFile(target) as file:

        def write(text: str) -> None:
            file.write(packer.compress(text.encode()) if packer else text.encode())

        write(BEGIN)
        for rows in objects.rows(None, most=ROWS_AT_ONCE):
            outlines = outlines_of(rows, labels)
            texts = features(rows, outlines, name=objects.name, grid=grid)
            write((",\n" if done else "\n") + ",\n".join(texts))
            done += len(outlines)
            on_objects(done, objects.count)
        write("\n" + END)
        if packer:
            file.write(packer.flush())
        file.commit()
    return done
