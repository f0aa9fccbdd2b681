"""``overtile objects``: what it says of good input, and one line with exit code 2 of bad input."""

from __future__ import annotations

import re
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import zarr
from scipy import ndimage

from flows.cli.main import main
from flows.cli.status import status_text
from pipeline.base.location import Location
from pipeline.ledger.status import read_objects_status, read_status
from pipeline.output.image_spec import ImageSpec
from pipeline.output.ome_write import create_images

SHAPE = (6, 32, 36)
OUTPUTS = ("out.zarr", "out2.zarr")


def store_scores(path, values, names, *, unit="micrometer", size=1.0):
    """Write scores (classes, …) as an OME-Zarr image."""
    axes = "czyx" if values.ndim == 4 else "cyx"
    root = zarr.create_group(path)
    root.create_array("0", data=values, chunks=(1, *values.shape[1:]))
    space = [{"name": a, "type": "space", "unit": unit} for a in axes[1:]]
    scale = [{"type": "scale", "scale": [1.0, *[size] * (values.ndim - 1)]}]
    root.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{
            "axes": [{"name": "c", "type": "channel"}, *space],
            "datasets": [{"path": "0", "coordinateTransformations": scale}],
        }],
        "omero": {"channels": [{"label": name} for name in names]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with scores of cells and membranes, and what is not scores."""
    folder = tmp_path_factory.mktemp("place")
    membrane = np.zeros(SHAPE, np.float32)
    membrane[:, ::8] = membrane[:, :, ::9] = 1
    score = np.clip(ndimage.gaussian_filter(membrane, (0, 0.6, 0.6)) * 1.5, 0, 1)
    both = np.stack([1 - score, score])
    store_scores(folder / "scores.zarr", np.rint(both * 255).astype(np.uint8), ["cell", "membrane"])
    store_scores(folder / "float.zarr", both, ["cell", "membrane"])
    store_scores(folder / "plane.zarr", both[:, 0], ["cell", "membrane"])
    nan = both.copy()
    nan[1, 3, 4, 5] = np.nan
    store_scores(folder / "nan.zarr", nan, ["cell", "membrane"])
    store_scores(folder / "logits.zarr", both * 9 - 4, ["cell", "membrane"])
    store_scores(folder / "three.zarr", both[[0, 1, 0]], ["cell", "membrane", "nucleus"])
    zarr.create_array(folder / "rgb.zarr", data=np.zeros((3, 40, 40), np.uint8),
                      dimension_names=("c", "y", "x"))  # fmt: skip
    zarr.create_array(folder / "ids.zarr", data=np.zeros(SHAPE, np.uint32))
    zarr.create_array(folder / "signed.zarr", data=np.zeros(SHAPE, np.int16))
    zarr.create_array(folder / "theirs.zarr", data=np.zeros(SHAPE, np.uint8))
    (folder / "folder").mkdir()
    (folder / "folder/notes.txt").write_text("no image")
    spec = ImageSpec(
        name="classes", is_label=True, path="labels/classes", axes="zyx", dtype="uint8",
        class_names=("cell", "membrane"), shapes=(SHAPE,), shards=((6, 32, 36),),
        chunks=((6, 32, 36),), voxel_sizes=((1.0, 1.0, 1.0),), translations=((0.0, 0.0, 0.0),),
        unit=("micrometer",) * 3,
    )  # fmt: skip
    create_images(Location.parse(folder / "classes.zarr"), [spec], version="0.5")
    return folder


@pytest.fixture
def shell(place, monkeypatch, capsys, request):
    """Return a function that finds objects in the place: exit code, standard output and error."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers

    def run(*argv, cluster=True):
        address = request.getfixturevalue("one_worker").scheduler.address if cluster else None
        try:
            code = main(["objects", *argv, *(["--cluster", address] if address else [])])
        except SystemExit as exit_:  # argparse leaves so
            code = exit_.code
        return (code, *capsys.readouterr())

    yield run
    for path in place.glob("out*.zarr"):
        shutil.rmtree(path)


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


WATERSHED = ("--method", "watershed")
SEEDS = (*WATERSHED, "--seed-distance", "0.3")
BAD = {
    # what is wrong: (arguments, what the line says)
    "classes and no scores": (("classes.zarr",), r"classes\.zarr holds classes and no scores: "
                              r"segment with --outputs classes,scores"),
    "an image of classes": (("classes.zarr/labels/classes",), r"holds classes and no scores"),
    "no such store": (("gone.zarr",), r"gone\.zarr does not exist"),
    "not an image": (("folder",), r"folder holds no image"),
    "ids as scores": (("ids.zarr", "--axes", "zyx"),
                      r"ids\.zarr holds uint32: expected scores as uint8, uint16, or floats"),
    "signed integers": (("signed.zarr", "--axes", "zyx"), r"holds int16: expected scores as uint8"),
    "an image in colour": (("rgb.zarr",), r"3 classes \(0 to 2\): choose .* with --class"),
    "three classes": (("three.zarr",),
                      r"3 classes \(cell, membrane, nucleus\): choose .* with --class"),
    "a class that does not exist": (("scores.zarr", "--class", "vesicle"),
                                    r"no class 'vesicle': expected one of cell, membrane"),
    "a class too many": (("scores.zarr", "--class", "2"), r"no class '2': expected one of cell"),
    "no such level": (("scores.zarr", "--level", "7"), r"no level 7"),
    "too few axes": (("theirs.zarr", "--axes", "yx"), r"axes 'yx'.*--axes"),
    "no such axis": (("theirs.zarr", "--axes", "zyq"), r"'q'"),
    "no such time": (("scores.zarr", "--time", "2"), r"no time axis"),
    "a threshold above 1": (("scores.zarr", "--threshold", "128"),
                            r"threshold 128: expected a score above 0 and up to 1"),
    "a threshold of 0": (("scores.zarr", "--threshold", "0"), r"threshold 0: expected a score"),
    "a threshold that is NaN": (("scores.zarr", "--threshold", "nan"), r"threshold nan: expected"),
    "a depth of 0": (("scores.zarr", *WATERSHED, "--depth", "0"), r"depth 0: expected a score"),
    "seeds above 1": (("scores.zarr", *WATERSHED, "--seed-threshold", "1.5"),
                      r"seed threshold 1\.5: expected a score"),
    "a distance below 0": (("scores.zarr", *WATERSHED, "--seed-distance", "-1"),
                           r"--seed-distance -1: expected 0.001 to"),
    "a distance without end": (("scores.zarr", *WATERSHED, "--seed-distance", "inf"),
                               r"--seed-distance inf: expected 0.001 to"),
    "a distance of kilometres": (("scores.zarr", *WATERSHED, "--seed-distance", "1e13"),
                                 r"--seed-distance 1e\+13: expected 0.001 to"),
    "a distance of nothing": (("scores.zarr", *WATERSHED, "--seed-distance", "0.0001"),
                              r"--seed-distance 0\.0001: expected 0.001 to"),
    "a depth with seeds": (("scores.zarr", *WATERSHED, "--depth", "0.1", "--seed-threshold", "0.5"),
                           r"--depth and --seed-threshold exclude each other"),
    "a depth of components": (("scores.zarr", "--depth", "0.1"),
                              r"--depth is for --method watershed, not for components"),
    "seeds of components": (("scores.zarr", "--seed-threshold", "0.1"),
                            r"--seed-threshold is for --method watershed"),
    "neighbours that no voxel has": (("scores.zarr", "--connectivity", "7"), r"--connectivity"),
    "no size": (("scores.zarr", "--min-voxels", "0"), r"--min-voxels"),
    "sizes in the wrong order": (("scores.zarr", "--min-voxels", "9", "--max-voxels", "3"),
                                 r"--min-voxels 9 and --max-voxels 3"),
    "a block of four sizes": (("scores.zarr", "--block", "1,8,16,16"), r"--block: '1,8,16,16'"),
    "an unknown method": (("scores.zarr", "--method", "magic"), r"--method: invalid choice"),
    "an output that is the input": (("scores.zarr", "scores.zarr", "--overwrite"),
                                    r"output and input are the same"),
    "an output around the input": (("scores.zarr/0", "scores.zarr", "--overwrite"),
                                   r"input lies inside the output"),
    "an output of others": (("scores.zarr", "theirs.zarr"), r"not made by overtile.*--overwrite"),
    "a folder of other things": (("scores.zarr", "folder", "--overwrite"), r"other files"),
    "no such cluster": (("scores.zarr", "--cluster", "nowhere"), r"cluster 'nowhere'"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(argv, says, shell, place):
    scores, *more = argv
    output = [] if more and not more[0].startswith("--") else ["out.zarr"]
    before = listing(place)
    code, out, err = shell(scores, *output, *more, cluster=False)
    assert (code, out) == (2, "")
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert len(err) < 500
    assert listing(place) == before


def test_a_store_that_workers_cannot_see_is_refused(shell):
    code, _, err = shell("scores.zarr", "memory://out.zarr")
    assert code == 2
    assert "memory:// exists in one process, and the workers are other processes" in err


@pytest.mark.parametrize(("name", "says"), [("nan", "nan"), ("logits", "(-4|5)")])
def test_values_that_are_no_scores_are_named_when_they_are_read(name, says, shell, place):
    code, _, err = shell(f"{name}.zarr", "out.zarr")
    assert code == 2
    *before, last = err.splitlines()
    assert re.search(
        rf"^overtile: .*{name}\.zarr.* holds {says}( at .*)?: expected scores from 0 to 1", last
    )
    assert not any("Traceback" in line for line in before)
    code, _, _ = shell("scores.zarr", "out.zarr", "--overwrite")
    assert code == 0


def test_a_block_that_no_worker_can_hold_is_refused_before_anything_is_written(shell, place):
    zarr.create_array(place / "large.zarr", shape=(4000, 4000, 4000), chunks=(64,) * 3, dtype="u1")
    before = listing(place)
    for size, says in (
        ("1250,1250,1250", r"a worker needs .* of memory and has .*--block"),
        ("4000,4000,4000", r"block 4000×4000×4000: expected fewer than 2,147,483,648 voxels"),
    ):
        code, _, err = shell("large.zarr", "out.zarr", "--block", size, *WATERSHED)
        assert code == 2
        assert re.search(says, err.splitlines()[-1]), err
        assert "Traceback" not in err
    assert listing(place) == before
    shutil.rmtree(place / "large.zarr")


def labels_in(place, name="out.zarr"):
    return zarr.open_array(place / name / "labels/objects/0", mode="r")[...]


def test_objects_between_membranes_are_counted_and_their_output_is_named(shell, place):
    code, out, err = shell("scores.zarr", "out.zarr", "--block", "3,16,16")
    assert (code, out) == (0, "")
    assert "objects between boundaries of class membrane, connected components: 6×32×36" in err
    assert re.search(r"done: 16 objects, \d\d\.\d % of the volume, in ", err)
    sizes, largest, *where = err.splitlines()[-6:]
    output = place / "out.zarr"
    assert re.fullmatch(
        r"sizes: median \d+ µm³; 90 % of the objects have about \d+ µm³ to \d+ µm³", sizes
    )
    assert re.fullmatch(r"largest object: \d+ µm³, \d\.\d % of the voxels in objects", largest)
    assert where == [f"objects: {output}", f"table: {output / 'tables/objects.parquet'}",
                     f"report: {output / 'run/report.html'}",
                     f"look at them: overtile view {output}"]  # fmt: skip
    assert "16 objects" in (output / "run/report.html").read_text()
    assert "note" not in err
    assert labels_in(place).max() == 16
    before = listing(place)
    code, _, err = shell("scores.zarr", "out.zarr")  # the blocks are those of before
    assert code == 0
    assert "done: 16 objects" in err
    assert set(listing(place)) == set(before)


def test_the_table_for_spreadsheets_is_named_where_one_was_asked_for(shell, place):
    code, _, err = shell("scores.zarr", "out.zarr", "--csv")
    assert code == 0
    (named,) = re.findall(r"^table for spreadsheets: (.*)$", err, re.MULTILINE)
    assert Path(named).read_text().count("\n") == 1 + 16


def test_another_definition_is_refused_and_replaces_only_on_request(shell, place):
    assert shell("scores.zarr", "out.zarr")[0] == 0
    before = listing(place)
    code, _, err = shell("scores.zarr", "out.zarr", "--threshold", "0.4")
    assert code == 2
    assert re.search(r"another job \(threshold was 0\.5, .*--overwrite", err)
    assert err.count("\n") == 1
    assert listing(place) == before
    assert shell("scores.zarr", "out.zarr", "--threshold", "0.4", "--overwrite")[0] == 0


def test_floats_are_rounded_to_16_bits_and_this_is_reported(shell, place):
    code, _, err = shell("float.zarr", "out.zarr")
    assert code == 0
    assert "note: scores of float32 are rounded to uint16" in err
    assert labels_in(place).max() == 16


def test_no_object_is_a_result_with_advice(shell, place):
    code, _, err = shell("scores.zarr", "out.zarr", "--min-voxels", "100000")
    assert code == 0
    assert "done: 0 objects, 0.0 % of the volume" in err
    assert (
        "note: no object was found: compare --class, --role, --threshold and --min-voxels 100000"
        in err
    )
    assert not labels_in(place).any()


@pytest.mark.parametrize(
    ("score", "role", "advice"),
    [(250, "foreground", "boundary"), (250, "boundary", "foreground"), (5, "boundary", None)],
)
def test_a_class_of_the_other_role_is_noticed(score, role, advice, shell, place):
    values = np.full(SHAPE, score, np.uint8)
    values[2:4, 5:9, 5:9] = 0
    zarr.create_array(place / "flat.zarr", data=values, overwrite=True)
    code, _, err = shell("flat.zarr", "out.zarr", "--axes", "zyx", "--role", role)
    assert code == 0
    assert ("pass --role" in err) == (advice is not None)
    assert advice is None or f"pass --role {advice}" in err


def test_an_object_that_holds_nearly_everything_found_may_be_the_background(shell, place):
    values = np.zeros(SHAPE, np.uint8)
    values[:, :, : SHAPE[2] // 2] = 250
    values[0, 0, -1] = 250
    zarr.create_array(place / "flat.zarr", data=values, overwrite=True)
    code, _, err = shell("flat.zarr", "out.zarr", "--axes", "zyx", "--role", "foreground")
    assert code == 0
    assert "note: one of the objects holds more than 90 % of their voxels" in err


def test_specks_are_noticed_where_they_are_half_of_the_objects(shell, place):
    values = np.zeros(SHAPE, np.uint8)
    values[0, ::2, ::2] = 250
    zarr.create_array(place / "flat.zarr", data=values, overwrite=True)
    words = ("--axes", "zyx", "--role", "foreground")
    assert "half of the objects have 1 voxel or fewer" in shell("flat.zarr", "out.zarr", *words)[2]
    values[:3] = values[0]
    values[0, ::2, 1] = 250  # fewer, and larger
    zarr.create_array(place / "flat.zarr", data=np.repeat(values, 3, 0), overwrite=True)
    assert "half of the objects" not in shell("flat.zarr", "other.zarr", *words)[2]


def test_an_image_in_place_of_scores_is_noticed(shell, place):
    zarr.create_array(place / "flat.zarr", data=np.full(SHAPE, 90, np.uint8), overwrite=True)
    _, _, err = shell("flat.zarr", "out.zarr", "--axes", "zyx")
    assert "names no classes: its values are taken as scores" in err
    assert "names no classes" not in shell("scores.zarr", "other.zarr")[2]


def test_affinities_that_connect_everything_are_noticed(shell, place):
    edges = np.full((3, *SHAPE), 250, np.uint8)
    store_scores(place / "joined.zarr", edges, ["before in z", "in y", "in x"])
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    root = zarr.open_group(place / "joined.zarr")
    root.attrs["overtile"] = {"outputs": "affinities", "offsets": offsets}
    code, _, err = shell("joined.zarr", "out.zarr")
    assert code == 0
    assert "note: one object fills nearly the whole volume: --method watershed" in err


@pytest.mark.slow
def test_affinities_are_recognised_and_need_no_class(shell, place):
    inside = 255 - zarr.open_array(place / "scores.zarr/0", mode="r")[1]
    edges = [np.minimum(inside, np.roll(inside, 1, axis)) for axis in range(3)]
    store_scores(place / "edges.zarr", np.stack(edges), ["before in z", "in y", "in x"])
    offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    root = zarr.open_group(place / "edges.zarr")
    root.attrs["overtile"] = {"outputs": "affinities", "offsets": offsets}
    code, _, err = shell("edges.zarr", "out.zarr", *WATERSHED, "--block", "3,16,16")
    assert code == 0
    assert "objects by affinities along z, y and x, watershed: 6×32×36 voxels" in err
    assert "done: 16 objects" in err
    assert "note" not in err
    report = (place / "out.zarr/run/report.html").read_text()
    assert "affinities at least 0.5 (stored as 128 of 255)" in report
    _, _, err = shell("edges.zarr", "out2.zarr", "--min-voxels", "100000")
    assert "note: no object was found: compare --threshold and --min-voxels 100000" in err


def test_images_of_two_dimensions_and_slices_have_separate_objects(shell, place):
    code, _, err = shell("plane.zarr", "out.zarr", *WATERSHED, "--threshold", "0.5")
    assert code == 0
    assert "% of the area" in err
    assert "µm²" in err
    assert labels_in(place).shape == SHAPE[1:]
    assert labels_in(place).max() == 16
    code, _, err = shell("scores.zarr", "out2.zarr", "--per-slice", "--block", "2,32,36")
    assert code == 0
    assert "done: 96 objects" in err
    assert [int(plane[plane > 0].min()) for plane in labels_in(place, "out2.zarr")] == [
        1 + 16 * z for z in range(6)
    ]


def test_intermediates_are_kept_on_request(shell, place):
    assert shell("scores.zarr", "out.zarr", "--keep-intermediates")[0] == 0
    assert (place / "out.zarr/run/objects/graphs/0.0.0").is_file()
    assert shell("scores.zarr", "out2.zarr")[0] == 0
    assert not (place / "out2.zarr/run/objects").exists()
    code, _, err = shell("scores.zarr", "out2.zarr", "--keep-intermediates")
    assert (code, err.count("\n")) == (2, 1)
    assert "out2.zarr is complete, and its intermediate files are deleted" in err
    assert shell("scores.zarr", "out.zarr", "--keep-intermediates")[0] == 0


def test_the_sizes_of_a_line_have_one_unit(shell, place):
    values = np.zeros((1, *SHAPE), np.uint8)
    values[0, :, 2:19:8, 2:19:8], values[0, :, 20:, 20:] = 200, 200
    store_scores(place / "mixed.zarr", values, ["cell"], size=0.05)
    code, _, err = shell("mixed.zarr", "out.zarr", "--per-slice")
    assert code == 0
    (sizes,) = [line for line in err.splitlines() if line.startswith("sizes:")]
    assert set(re.findall(r"[nµ]m.", sizes)) == {"µm²"}, sizes


def test_scores_without_a_voxel_size_can_be_given_one(shell, place):
    names, values = ["cell"], np.zeros((1, *SHAPE), np.uint8)
    values[:, 1:4, 3:9, 3:9] = 200
    store_scores(place / "stated.zarr", values, names, size=0.25)
    store_scores(place / "silent.zarr", values, names, unit="pixel")
    sized = ("--voxel-size", "250,250,250nm")
    assert shell("stated.zarr", "out.zarr", *SEEDS)[0] == 0
    assert shell("silent.zarr", "out2.zarr", *SEEDS, *sized)[0] == 0
    one, two = (parquet.read_table(place / name / "tables/objects.parquet") for name in OUTPUTS)
    assert one.equals(two, check_metadata=True)
    assert one.column("volume_um3").to_pylist() == [3 * 6 * 6 * 0.25**3]
    scales = [zarr.open_group(place / name / "labels/objects").attrs["ome"] for name in OUTPUTS]
    assert scales[0]["multiscales"] == scales[1]["multiscales"]
    for arguments, says in (
        (("silent.zarr", "out3.zarr", "--voxel-size", "1,1"), "expected 3 sizes, along z, y, x"),
        (("silent.zarr", "out2.zarr", *SEEDS), "another job .*voxel_size_um was .*, now"),
        (("silent.zarr", "silent.zarr/labels/objects", *sized), "inside .*choose another output"),
    ):
        code, _, err = shell(*arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert re.search(says, err), err


def test_the_size_of_the_file_is_replaced_in_one_line_and_the_image_has_it_too(shell, place):
    values = np.zeros((1, *SHAPE), np.uint8)
    values[:, 1:4, 3:9, 3:9] = 200
    store_scores(place / "wrong.zarr", values, ["cell"], size=4.0)

    code, _, err = shell(
        "wrong.zarr", "out.zarr", "--voxel-size", "250,250,250nm", "--intensity", "wrong.zarr"
    )
    assert code == 0, err
    assert [line for line in err.splitlines() if "voxel size" in line] == [
        "voxel size: 0.25 × 0.25 × 0.25 µm (z, y, x), by --voxel-size; the file states 4 × 4 × 4 µm"
    ]
    rows = parquet.read_table(place / "out.zarr/tables/objects.parquet").to_pydict()
    assert rows["volume_um3"] == [3 * 6 * 6 * 0.25**3]
    assert rows["intensity_mean_cell"] == [200]
    _, _, err = shell("wrong.zarr", "out2.zarr")
    assert "voxel size: 4 × 4 × 4 µm (z, y, x), as the file states" in err.splitlines()


def test_a_table_without_the_grey_values_of_the_one_before_says_how_to_keep_them(shell, place):
    measured = ("--intensity", "scores.zarr")
    assert shell("scores.zarr", "out.zarr", *measured)[0] == 0
    note = (
        f"note: the table will have no grey values, and that of {place / 'out.zarr'} has: to "
        f"measure them again, add --intensity {place / 'scores.zarr'}"
    )
    code, _, err = shell("scores.zarr", "out.zarr", "--min-voxels", "2", "--overwrite")
    assert code == 0
    assert note in err.splitlines()
    for argv in (("--overwrite", "--min-voxels", "3"), ("--overwrite", *measured)):
        assert "grey values" not in shell("scores.zarr", "out.zarr", *argv)[2]
    inside = "scores.zarr/labels/objects"
    assert shell("scores.zarr", inside, *measured)[0] == 0
    _, _, err = shell("scores.zarr", "out2.zarr")
    assert note.replace("out.zarr", inside) in err.splitlines()
    assert "grey values" not in shell("scores.zarr", "out.zarr", *measured, "--overwrite")[2]
    shutil.rmtree(place / "scores.zarr/labels")


def test_status_names_the_objects_inside_a_segmentation(shell, place):
    assert shell("scores.zarr", "scores.zarr/labels/objects")[0] == 0
    scores = Location.parse(str(place / "scores.zarr"))
    inside = read_objects_status(scores)
    assert read_objects_status(scores / "labels") is None
    shown = status_text(inside, now=datetime.now(UTC), inside=inside)
    assert re.search(r"\nobjects +16 objects; complete\n +more: overtile status \S+/objects", shown)
    zarr.open_group(place / "scores.zarr").create_group("run")  # as in a segmentation
    _, _, err = shell("scores.zarr", "scores.zarr/labels/objects", "--min-voxels", "99")
    advised = re.search(r"replace these alone: overtile objects (\S+) (\S+) … (--\w+)$", err)
    before = {*(place / "scores.zarr").rglob("c/*")}
    assert shell(*advised.groups(), "--min-voxels", "99")[0] == 0
    assert before <= {*(place / "scores.zarr").rglob("c/*")}
    shutil.rmtree(place / "scores.zarr/run")
    shutil.rmtree(place / "scores.zarr/labels")


@pytest.mark.slow
def test_shares_label_and_write_and_each_run_says_what_comes_next(shell, place):
    def run(*argv):
        code, out, err = shell("scores.zarr", "out.zarr", "--block", "3,8,9", *argv)
        assert out == ""
        return code, err.splitlines()

    assert run()[0] == 0
    expected = labels_in(place)
    shutil.rmtree(place / "out.zarr")
    code, said = run("--shard", "2/2")
    assert code == 0
    assert "shard 2/2: 16 of these blocks" in said
    assert said[-2:] == [
        "done: 16 blocks of shard 2/2 labelled",
        "next, once all shards are labelled: the same command without --shard, or with "
        "--merge-only for the shards to write the labels too",
    ]
    code, said = run("--merge-only")
    assert code == 1
    assert re.fullmatch(
        r"overtile: not every block of .*out\.zarr is labelled: shard 1/2 misses 16 of 16 blocks; "
        r"run the same command with --shard 1/2, then this one again", said[-1])  # fmt: skip
    assert run("--shard", "1/2")[0] == 0
    out_zarr = Location.parse(str(place / "out.zarr"))
    status = status_text(read_status(out_zarr), now=datetime.now(UTC))
    for words in (
        r"stage +all blocks are labelled: run overtile objects without --shard, or with --merge",
        r"blocks +0 of 32 done, 0.0 %",
        r"labelled +32 of 32\n",
        r"shard 1/2 +0 of 16 done, 16 labelled",
    ):
        assert re.search(words, status)
    code, said = run("--merge-only")
    assert code == 0
    assert said[-2] == "done: 16 objects in 32 blocks, merged"
    assert said[-1].startswith("next: the same command with --shard 1/2 and --shard 2/2 instead of")
    assert re.search(r"\nobjects +16\n", status_text(read_status(out_zarr), now=datetime.now(UTC)))
    code, said = run("--shard", "1/2")
    assert code == 0
    assert said[-2:] == [
        "done: 16 blocks of shard 1/2 written",
        "next, once all shards are written: the same command without --shard",
    ]
    assert run("--merge-only")[1][-1].startswith("next: the same command with --shard 2/2 instead")
    assert run("--shard", "2/2")[0] == 0
    assert "without --merge-only: all labels are written" in run("--merge-only")[1][-1]
    code, said = run()
    assert code == 0
    assert any(line.startswith("done: 16 objects, ") for line in said)
    assert re.search(r"nothing is left to do: .*out\.zarr is complete$", run("--merge-only")[1][-1])
    np.testing.assert_array_equal(labels_in(place), expected)
    code, said = run("--shard", "1/2")
    assert code == 0
    assert said[-1] == "nothing to do for shard 1/2: a run without --shard has its blocks"


def test_help_lists_the_options_and_fits_80_columns(shell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = shell("--help", cluster=False)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for word in ("SCORES", "OUTPUT", "--class", "--role", "--method", "--threshold", "--depth",
                 "--seed-distance", "--min-voxels", "--border", "--cluster", "µm"):  # fmt: skip
        assert word in out
