"""A proposed mask lies where the tissue is, in the coordinates of the volume."""

from __future__ import annotations

import errno
import itertools
import os

import numpy as np
import pytest
import tifffile
import zarr

from pipeline.base.errors import OutputError, PlanError, StorageFullError, VolumeError
from pipeline.base.geometry import Box
from pipeline.masking import coarse
from pipeline.masking.clean import cleaned
from pipeline.masking.propose import propose_mask, write_mask
from pipeline.masking.request import MaskRequest
from pipeline.output import documents, whole_image
from pipeline.volume.volume import find_volume, open_volume

TISSUE = (slice(16, 64), slice(64, 160))  # of a plane of 96 × 192
SIZE, ORIGIN = (3.0, 0.5, 0.5), (7.0, 11.0, 13.0)


def plane(kind, *, tissue=TISSUE, shape=(96, 192)):
    """Return a noisy picture with one piece of tissue: (c, y, x)."""
    noise = np.random.default_rng(0).integers(-5, 6, (3, *shape))
    outside, inside = {
        "slide": ((240, 238, 242), (200, 110, 170)),
        "fluorescence in three colours": ((12, 9, 7), (180, 190, 185)),
        "bright": ((20,), (150,)),
        "dark": ((220,), (90,)),
    }[kind]
    image = np.zeros((len(outside), *shape))
    image += np.array(outside)[:, None, None]
    image[(slice(None), *tissue)] = np.array(inside)[:, None, None]
    return (image + noise[: len(outside)]).astype("u1")


def stored_mask(tmp_path, **settings):
    """Propose a mask for ``in.zarr`` and return (array with z y x, volume) of what is written."""
    request = MaskRequest(
        input=str(tmp_path / settings.pop("name", "in.zarr")),
        output=str(tmp_path / "mask.zarr"),
        **settings,
    )
    proposed = propose_mask(request)
    write_mask(proposed)
    source = find_volume(str(tmp_path / "mask.zarr"))
    mask = open_volume(source).read(Box.of_shape(source.shape_zyx))[0]
    assert set(np.unique(mask)) <= {0, 1}
    assert mask.mean() == pytest.approx(proposed.kept)
    return mask, source


@pytest.mark.parametrize("kind", ["slide", "fluorescence in three colours", "bright", "dark"])
@pytest.mark.parametrize("method", ["otsu", "li", "triangle"])
def test_tissue_is_found_on_white_and_on_black(kind, method, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=plane(kind), dimension_names=tuple("cyx"))
    mask, _ = stored_mask(tmp_path, method=method)
    truth = np.zeros((96, 192), bool)
    truth[TISSUE] = True
    overlap = (mask[0] & truth).sum() / (mask[0] | truth).sum()
    assert overlap > (0.95 if method == "otsu" else 0.85)


def test_the_user_states_what_tissue_is(tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=plane("bright")[0])
    mask, _ = stored_mask(tmp_path, tissue="bright")
    opposite, _ = stored_mask(tmp_path, tissue="dark", overwrite=True)
    assert mask[0][TISSUE].mean() > 0.95
    assert opposite[0][TISSUE].mean() < 0.1
    assert opposite.mean() > 0.7


def pyramid(path, raw_zyx, *, states_origin):
    """Write an OME-Zarr image of three levels, means of 2 × 2 voxels each."""
    group = zarr.create_group(path)
    datasets = []
    for level in range(3):
        step = 2**level
        z, y, x = raw_zyx.shape
        means = raw_zyx.reshape(z, y // step, step, x // step, step).mean(axis=(2, 4))
        group.create_array(str(level), data=means.astype("u1"))
        factors = (1, step, step)
        scale = [v * f for v, f in zip(SIZE, factors, strict=True)]
        transformations = [{"type": "scale", "scale": scale}]
        if states_origin or level == 0:
            moved = [o + v * (f - 1) / 2 for o, v, f in zip(ORIGIN, SIZE, factors, strict=True)]
            transformations.append({"type": "translation", "translation": moved})
        else:
            transformations.append({"type": "translation", "translation": list(ORIGIN)})
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


@pytest.mark.parametrize("states_origin", [True, False])
@pytest.mark.parametrize("most", [10**9, 4 * 96 * 192 // 4, 4 * 96 * 192 // 100])
@pytest.mark.parametrize("level", [None, 1])
def test_the_mask_lies_where_the_tissue_is_whatever_was_looked_at(
    most, level, states_origin, tmp_path, monkeypatch
):
    monkeypatch.setattr(coarse, "MOST_VOXELS", most)
    raw = np.repeat(plane("bright"), 4, axis=0)
    pyramid(tmp_path / "in.zarr", raw, states_origin=states_origin or level is not None)
    mask, source = stored_mask(tmp_path, level=level, closing=0, smallest=0)
    assert source.unit == ("micrometer",) * 3
    found = np.array(np.nonzero(mask)).mean(axis=1) * source.voxel_size + np.array(
        source.translation
    )
    truth = np.array([1.5, (16 + 63) / 2, (64 + 159) / 2]) * SIZE + np.array(ORIGIN)
    np.testing.assert_allclose(found, truth, atol=0.1 * max(source.voxel_size[1:]))
    extent = np.array(mask.shape) * source.voxel_size
    np.testing.assert_allclose(extent, np.array([4, 96, 192]) * SIZE)


def test_the_mask_of_a_pyramidal_tiff_lies_where_the_tissue_is(tmp_path, monkeypatch):
    monkeypatch.setattr(coarse, "MOST_OF_A_PLANE", 96 * 192 // 8)
    full = plane("slide").transpose(1, 2, 0)
    with tifffile.TiffWriter(tmp_path / "in.tif") as tiff:
        options = {"photometric": "rgb", "resolutionunit": "CENTIMETER", "tile": (16, 16)}
        tiff.write(full, subifds=1, resolution=(20000, 20000), **options)
        tiff.write(full[::2, ::2], subfiletype=1, **options)
    mask, source = stored_mask(tmp_path, name="in.tif", closing=0, smallest=0)
    assert source.voxel_size[1:] == pytest.approx((2.0, 2.0))  # µm: half a level and half again
    found = (np.array(np.nonzero(mask)).mean(axis=1) * source.voxel_size + source.translation)[1:]
    np.testing.assert_allclose(found, np.array([39.5, 111.5]) * 0.5, atol=0.3)


def test_specks_and_holes_go_and_gaps_close():
    mask = np.zeros((1, 60, 60), bool)
    mask[0, 10:40, 10:40] = True
    mask[0, 20:22, 20:22] = False  # a hole
    mask[0, 10:40, 25:28] = False  # a gap of three
    mask[0, 50:52, 50:52] = True  # a speck
    clean = cleaned(mask, (1, 1, 1), closing=2, smallest=10, margin=0)
    expected = np.zeros_like(mask)
    expected[0, 10:40, 10:40] = True
    assert (clean != expected).sum() <= 8  # the gap's ends stay rounded
    assert not clean[0, 45:].any()
    same = cleaned(mask, (1, 1, 1), closing=0, smallest=0, margin=0)
    np.testing.assert_array_equal(same, mask)


def test_a_margin_is_as_wide_along_every_axis_in_micrometres():
    mask = np.zeros((9, 41, 41), bool)
    mask[4, 20, 20] = True
    grown = cleaned(mask, (4.0, 1.0, 1.0), closing=0, smallest=0, margin=8)
    z, y, x = (np.ptp(axis) + 1 for axis in np.nonzero(grown))
    assert (z, y, x) == (5, 17, 17)


@pytest.mark.parametrize(
    ("settings", "kind", "line"),
    [
        ({"tissue": "green"}, PlanError, "tissue 'green': expected auto or"),
        ({"method": "best"}, PlanError, "method 'best': expected otsu"),
        ({"closing": -1}, PlanError, r"closing \(-1\): expected a distance"),
        ({"margin": float("nan")}, PlanError, r"margin \(nan\)"),
        ({"smallest": -1}, PlanError, r"smallest \(-1\)"),
        ({"tissue": "saturated"}, VolumeError, "expected an RGB image"),
        ({"smallest": 10**9}, VolumeError, "nothing is left of the mask"),
        ({"name": "flat.zarr"}, VolumeError, "all grey values are equal"),
        ({"name": "gone.zarr"}, VolumeError, "does not exist"),
        ({"output": "in.zarr"}, OutputError, "same"),
        ({"output": "in.zarr/mask.zarr"}, OutputError, "inside the input"),
        ({"output": "folder"}, OutputError, "other files"),
        ({"output": "old.zarr"}, OutputError, "exists: .* --overwrite"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(settings, kind, line, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=plane("bright")[0])
    zarr.create_array(tmp_path / "flat.zarr", data=np.full((40, 40), 7, "u1"))
    zarr.create_array(tmp_path / "old.zarr", data=np.full((40, 40), 7, "u1"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    where = {
        "input": str(tmp_path / settings.pop("name", "in.zarr")),
        "output": str(tmp_path / settings.pop("output", "mask.zarr")),
    }
    with pytest.raises(kind, match=line) as caught:
        propose_mask(MaskRequest(**where, **settings))
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_mask_of_an_image_that_is_stored_backwards_lies_where_the_image_does(tmp_path):
    values = plane("bright")[0]
    zarr.create_array(
        tmp_path / "in.zarr", data=values, dimension_names=("y", "x"),
        attributes={"voxel_size_um": [-2.0, 0.5]},
    )  # fmt: skip
    _, source = stored_mask(tmp_path)
    raw = find_volume(str(tmp_path / "in.zarr"))
    assert source.direction == raw.direction == (1.0, -1.0, 1.0)
    for axis in (1, 2):
        factor = source.voxel_size[axis] / raw.voxel_size[axis]
        shift = (factor - 1) / 2 * raw.step[axis]
        assert source.translation[axis] == pytest.approx(shift)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_mask_that_was_not_written_whole_is_no_mask(is_killed, tmp_path, monkeypatch):
    """Its missing chunks would mean "outside", and a segmentation would leave tissue out."""
    zarr.create_array(tmp_path / "in.zarr", data=plane("bright", shape=(600, 300)))
    output, kept = tmp_path / "mask.zarr", documents._put_if_missing

    def written(allowed):
        written_before = itertools.count()

        def put_if_missing(store, key, content):
            if next(written_before) == allowed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            kept(store, key, content)

        with monkeypatch.context() as patch:
            patch.setattr(documents, "_put_if_missing", put_if_missing)
            if is_killed:
                patch.setattr(whole_image, "delete_output", lambda output: None)
            stored_mask(tmp_path, overwrite=is_killed)

    for allowed in range(4):
        try:
            written(allowed)
            break
        except StorageFullError:
            assert is_killed or not any(output.rglob("*"))
            with pytest.raises(VolumeError):
                find_volume(str(output))
    assert allowed == 3  # a group, an array and its chunk
