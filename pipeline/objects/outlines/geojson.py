"""Outlines as GeoJSON (RFC 7946) with the members that QuPath reads.

A feature has ``objectType``, ``classification`` and ``measurements`` as QuPath exports them; in a
volume of several slices, its geometry has a ``plane``. Coordinates are pixels of an image, x to the
right and y down, so that the first pixel covers 0 to 1; coordinate 0, 0 is its outer corner.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ...output.image_spec import colour
from ..table.finished import TableRows
from .pixel_grid import PixelGrid
from .rings import Polygon

BEGIN: Final = '{"type":"FeatureCollection","features":['
END: Final = "]}\n"


def features(
    rows: TableRows, outlines: Sequence[Sequence[Polygon]], *, name: str, grid: PixelGrid
) -> Iterator[str]:
    """Yield the text of a feature for each row. name: of the class of all objects."""
    classification = {"name": name, "color": list(colour(1))}
    planes = rows.corners[:, 0, 0].tolist()
    has_planes = any(planes) or grid.has_slices
    measured = {name: one.to_pylist() for name, one in rows.columns.items() if name != "id"}
    for row, (identifier, polygons) in enumerate(zip(rows.ids.tolist(), outlines, strict=True)):
        geometry = _geometry(polygons, grid)
        if has_planes:
            geometry["plane"] = {"c": -1, "z": grid.slice_of(planes[row]), "t": 0}
        feature = {
            "type": "Feature",
            "id": identifier,
            "geometry": geometry,
            "properties": {
                "objectType": "detection",
                "id": identifier,
                "name": str(identifier),
                "classification": classification,
                "measurements": _measurements(measured, row),
            },
        }
        yield json.dumps(feature, separators=(",", ":"), ensure_ascii=False)


def _geometry(polygons: Sequence[Polygon], grid: PixelGrid) -> dict[str, Any]:
    coordinates = [[grid.coordinates(ring) for ring in polygon] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _measurements(values: dict[str, list[Any]], row: int) -> dict[str, float]:
    """Return the numbers of a row; what is empty or not finite is left out."""
    numbers = ((name, column[row]) for name, column in values.items())
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in numbers
        if value is not None and math.isfinite(value)
    }
