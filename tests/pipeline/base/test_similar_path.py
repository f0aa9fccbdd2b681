"""A path that does not exist: the message names what is nearly it."""

import pytest

from pipeline.base.similar_path import similar_text


@pytest.mark.parametrize(
    ("missing", "meant"),
    [
        ("data/segmentd.zarr", "data/segmented.zarr"),
        ("data/Segmented.zarr/labels", "data/segmented.zarr"),
        ("dat/segmented.zarr", "data"),
        ("data/quite-another.tif", None),
        ("nowhere/at/all.zarr", None),
    ],
)
def test_the_first_missing_part_is_compared_with_its_neighbours(missing, meant, tmp_path):
    (tmp_path / "data/segmented.zarr").mkdir(parents=True)
    (tmp_path / "data/raw.zarr").mkdir()
    expected = f" (did you mean {tmp_path / meant}?)" if meant else ""
    assert similar_text(tmp_path / missing) == expected


def test_a_folder_that_cannot_be_listed_suggests_nothing(tmp_path, monkeypatch):
    (tmp_path / "one.zarr").mkdir()

    def denied(_):
        raise PermissionError

    monkeypatch.setattr("pipeline.base.similar_path.os.scandir", denied)
    assert similar_text(tmp_path / "two.zarr") == ""
