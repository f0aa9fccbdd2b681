"""Sizes of the objects of a run in words: what most of them have, and what the largest holds."""

from __future__ import annotations

from ..table.size_counts import EXACT_UP_TO
from ..table.size_unit import SizeUnit, element_name
from ..table.table_spec import TableSpec
from ..table.table_summary import TableSummary


def common_sizes_text(found: TableSummary, unit: SizeUnit) -> str:
    """Return the sizes that 90 % of the objects have; large ones are not known exactly."""
    low, high = (found.sizes.quantile(share) for share in (0.05, 0.95))
    about = "about " if high > EXACT_UP_TO else ""
    return f"{about}{unit.text(low)} to {unit.text(high)}"


def largest_text(found: TableSummary, spec: TableSpec) -> str:
    """Return the size of the largest object, and its share of the voxels of all objects."""
    voxels = found.largest[0].voxels
    size = SizeUnit.of(spec).near(voxels).text(voxels)
    return f"{size}, {100 * voxels / found.voxels:.1f} % of the {element_name(spec)}s in objects"
