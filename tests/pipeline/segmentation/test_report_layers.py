"""What a report shows of an input that cannot be read everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.geometry import Box
from pipeline.segmentation import report_layers
from pipeline.volume.volume import find_volume


def test_chunks_that_cannot_be_read_are_0_until_failures_take_too_long(tmp_path, monkeypatch):
    zarr.create_array(
        tmp_path / "in.zarr", data=np.full((4, 4, 16), 7, "uint8"), chunks=(4, 4, 4),
        dimension_names=list("zyx"),
    )  # fmt: skip
    for damaged in (0, 2):
        (tmp_path / f"in.zarr/c/0/0/{damaged}").write_bytes(b"no zstd frame")
    source = find_volume(tmp_path / "in.zarr")

    def shown(start):
        found = report_layers._readable(source, Box((0, 0, start), (1, 1, 16)))
        return found[0, 0, 0, ::4].tolist()

    assert shown(0) == [0, 7, 0, 7]
    monkeypatch.setattr(report_layers, "_MOST_FAILING_S", 0.0)  # as if each took long
    assert shown(4) == [7, 0, 0]
    with pytest.raises(Exception, match=r"(?i)zstd"):
        shown(0)
