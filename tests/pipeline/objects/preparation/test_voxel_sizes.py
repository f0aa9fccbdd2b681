"""Sizes of voxels where an axis is stored backwards, or states no unit beside others that do."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.objects.definition.request import ObjectsRequest
from pipeline.objects.preparation.prepare import prepare_objects


def prepared(folder, scale, units, **settings):
    root = zarr.create_group(folder / "scores.zarr")
    root.create_array("0", data=np.zeros((4, 8, 8), np.uint8))
    axes = [{"name": name, "type": "space", **({"unit": unit} if unit else {})}
            for name, unit in zip("zyx", units, strict=True)]  # fmt: skip
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": [100.0, 0.0, 0.0]}]}],
    }]}  # fmt: skip
    return prepare_objects(
        ObjectsRequest(scores=folder / "scores.zarr", output=folder / "out.zarr", **settings)
    )


def test_positions_of_the_table_are_those_of_the_labels_also_where_z_is_stored_backwards(tmp_path):
    run = prepared(tmp_path, [-1.0, 0.5, 0.5], ["micrometer"] * 3)
    labels, spec = run.image("uint32"), run.table_spec
    assert spec.voxel_size_um == labels.voxel_sizes[0] == (-1.0, 0.5, 0.5)
    assert spec.origin_um == labels.translations[0] == (100.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("units", "steps"),
    [
        (("micrometer",) * 3, (1000, 100, 200)),
        ((None, "micrometer", "micrometer"), (100, 100, 200)),
        ((None, None, None), (10_000, 1000, 2000)),
        (("micrometer", "nanometer", "nanometer"), (1000, 1, 1)),
    ],
)
def test_an_axis_without_a_unit_counts_as_the_finest_of_the_others(units, steps, tmp_path):
    run = prepared(
        tmp_path, [1.0, 0.1, 0.2], units, method="watershed", role="foreground", seed_distance=0.5
    )
    assert run.method.spacing == steps
