"""Files and words that hypothesis makes wrong: read or refused, without traceback, hang or harm.

A process of its own reads them (fuzz_child.py). `make test` tries a few of each kind, always the
same; `make fuzz` tries many, at random, and prints the counts.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cli.main import COMMANDS, make_parser
from unet.weights.location import BUNDLED

CHILD = Path(__file__).parent / "fuzz_child.py"
FEW = {"zarr": 60, "ome": 60, "record": 40, "tiff": 60, "header": 50, "package": 40,
       "profile": 60, "arguments": 60}  # fmt: skip
"""Examples in `make test`, by kind; about a second each."""
MANY = int(os.environ.get("FUZZ_EXAMPLES", "5000"))
"""Examples of each kind in `make fuzz`."""
RIGHT = ("read", "refused")


class Reader:
    """The process that reads examples."""

    def __init__(self, folder):
        self.folder = folder
        self.counts = Counter()
        self.child = None

    def outcome(self, kind, example):
        """Return the outcome of an example, and a text."""
        if self.child is None or self.child.poll() is not None:
            self.child = subprocess.Popen(
                [sys.executable, CHILD, self.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        self.child.stdin.write(json.dumps(example) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        outcome, text = json.loads(line) if line else ("crash", f"exit {self.child.wait()}")
        self.counts[kind, outcome] += 1
        return outcome, text

    def stop(self):
        if self.child is not None:
            self.child.stdin.close()
            self.child.wait(60)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "beside").write_text("not to be touched")
    zarr.create_array(folder / "in.zarr", data=np.zeros((6, 20, 20), "u1"))
    reader = Reader(folder)
    yield reader
    reader.stop()
    for (kind, outcome), count in sorted(reader.counts.items()):
        print(f"{kind}: {count:,} {outcome}")


def files(**contents):
    """Return an example's files, whose names have `/` and `.` for `__` and `_DOT_`."""
    return {name: base64.b64encode(content).decode() for name, content in contents.items()}


# ---- JSON ----

NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([0, -1, 2**31, 2**63, 10**18, 10**30, 10**400, 1e308]),
    st.floats(),
)  # fmt: skip
WORDS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "..", "../../x", "/etc/passwd", "s0", "x", "pickle", "a\nb", "\0", "nan",
                     "object", "<u1", "|O", "float128", "\x1b[2J"]),
)  # fmt: skip
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(WORDS, st.sampled_from(["name", "path", "type", "id", "configuration"])),
            inner, max_size=3,
        ),
    ),
    max_leaves=8,
)  # fmt: skip


def places_in(document):
    """Yield every (container, key) of a JSON document."""
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in list(keys):
            yield document, key
            yield from places_in(document[key])


@st.composite
def documents(draw, base):
    """Return a JSON text: the base with some values replaced, added or removed, or cut off."""
    document = json.loads(json.dumps(base))
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_in(document))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat"]))
        if action == "remove":
            del container[key]
        elif action == "repeat" and isinstance(container[key], list):
            container[key] = container[key] * draw(st.sampled_from([0, 2, 5, 3000]))
        else:
            container[key] = draw(VALUES)
    text = json.dumps(document)
    how = draw(st.sampled_from([*["whole"] * 12, "cut", "deep", "twice", "bytes"]))
    if how == "cut":
        return text[: draw(st.integers(0, len(text)))].encode()
    if how == "deep":
        levels = draw(st.sampled_from([50, 90, 200, 10_000, 200_000]))
        return text.replace("null", "[" * levels + "]" * levels, 1).encode()
    if how == "twice" and text.startswith("{") and len(text) > 2:
        return f'{{"shape": [1e400, -0], {text[1:]}'.encode()
    if how == "bytes":
        return draw(st.binary(max_size=40)) + text.encode("utf-16")
    return text.encode()


V3 = {
    "zarr_format": 3, "node_type": "array", "shape": [6, 20, 20], "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [3, 10, 20]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0, "attributes": {"voxel_size_um": [1, 1, 1]},
    "codecs": [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [3, 5, 5], "index_location": "end",
        "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 0}}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}},
                         {"name": "crc32c"}]}}],
    "dimension_names": ["z", "y", "x"], "storage_transformers": [],
}  # fmt: skip
V2 = {
    "zarr_format": 2, "shape": [6, 20, 20], "chunks": [3, 10, 20], "dtype": "<u2",
    "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "filters": [{"id": "delta", "dtype": "<u2"}], "fill_value": 0, "order": "C",
    "dimension_separator": "/",
}  # fmt: skip
SCALE = [{"type": "scale", "scale": [1, 1, 1]}, {"type": "translation", "translation": [0, 0, 0]}]
AXES = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
OME4 = {
    "multiscales": [{"version": "0.4", "name": "a", "axes": AXES, "datasets": [
        {"path": path, "coordinateTransformations": SCALE} for path in ("s0", "s1")]}],
    "omero": {"channels": [{"label": "DNA"}]},
}  # fmt: skip
SYSTEMS = {
    "ome": {"version": "0.6", "multiscales": [{"coordinateSystems": [{"name": "a", "axes": AXES}],
        "datasets": [{"path": "s0", "coordinateTransformations": [{
            "type": "sequence", "input": "s0", "output": "a", "transformations": [
                *SCALE, {"type": "affine", "affine": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]},
                {"type": "byDimension", "transformations": [
                    {"type": "scale", "scale": [2], "input_axes": ["z"], "output_axes": ["z"]}]},
                {"type": "mapAxis", "mapAxis": [0, 1, 2]}]}]}]}]},
}  # fmt: skip
GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}
PLATE = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}], "version": "0.4"}}
WELL = {"well": {"images": [{"path": "0"}], "version": "0.4"}}
SERIES = {"bioformats2raw.layout": 3}
N5 = {
    "dimensions": [20, 20, 6], "blockSize": [10, 10, 3], "dataType": "uint8",
    "compression": {"type": "gzip"}, "resolution": [1, 1, 1], "units": ["nm", "nm", "nm"],
    "pixelResolution": {"dimensions": [1, 1, 1], "unit": "nm"}, "downsamplingFactors": [1, 1, 1],
}  # fmt: skip
INFO = {
    "@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint8",
    "num_channels": 1, "scales": [{"key": "1_1_1", "size": [20, 20, 6], "encoding": "raw",
        "chunk_sizes": [[10, 10, 3]], "resolution": [1, 1, 1], "voxel_offset": [0, 0, 0]}],
}  # fmt: skip


@st.composite
def zarr_examples(draw):
    """Return an array of Zarr, N5 or Precomputed with wrong metadata, and chunks of any bytes."""
    name, base = draw(
        st.sampled_from(
            [("zarr.json", V3), (".zarray", V2), ("attributes.json", N5), ("info", INFO)]
        )
    )
    made = {f"x/{name}": draw(documents(base))}
    for chunk in ("c/0/0/0", "0/0/0", "c/1/0/0", "1_1_1/0-10_0-10_0-3"):
        made[f"x/{chunk}"] = draw(st.binary(max_size=60))
    links = draw(st.sampled_from([{}, {}, {}, {"x/c/1": "../../x"}, {"x/y": "y"}]))
    kept = {key: content for key, content in made.items() if not links or "/1/" not in key}
    return {"target": "volume", "files": files(**kept), "links": links}


@st.composite
def ome_examples(draw):
    """Return a group of OME-Zarr, a collection or a plate with wrong metadata."""
    kind = draw(st.sampled_from(["0.4", "0.5", "0.6", "plate", "series"]))
    array = json.dumps(V2).encode()
    made = {"x/s0/.zarray": array, "x/s1/.zarray": array, "x/.zgroup": b'{"zarr_format": 2}'}
    if kind in ("0.5", "0.6"):
        attributes = {"ome": {**OME4, "version": "0.5"}} if kind == "0.5" else SYSTEMS
        made = {"x/zarr.json": draw(documents({**GROUP, "attributes": attributes})),
                "x/s0/zarr.json": json.dumps(V3).encode()}  # fmt: skip
    elif kind == "0.4":
        made["x/.zattrs"] = draw(documents(OME4))
    elif kind == "plate":
        made["x/.zattrs"] = draw(documents(PLATE))
        made["x/A/1/.zattrs"] = draw(documents(WELL))
        made["x/A/1/.zgroup"] = made["x/.zgroup"]
    else:
        made["x/.zattrs"] = draw(documents(SERIES))
        made["x/OME/.zattrs"] = draw(documents({"series": ["0", "1"]}))
        made["x/OME/.zgroup"] = made["x/0/.zgroup"] = made["x/.zgroup"]
        made["x/0/.zattrs"] = draw(documents(OME4))
        made["x/0/s0/.zarray"] = array
    links = draw(st.sampled_from([{}, {}, {}, {"x/s2": ".."}, {"x/s3": "s3"}]))
    return {"target": "volume", "files": files(**made), "links": links}


FIGURES = {
    "blocks": 1, "voxels": 10, "bytes_read": 10, "bad_voxels": 0, "class_voxels": [5, 5],
    "stage_seconds": {"read": 0.1}, "seconds": 1.0,
}  # fmt: skip
RECORD = {
    "job": {"input_uri": "/in.zarr", "block": [6, 20, 20], "tile": [6, 20, 20], "kind": "objects",
            "traversal": "tiles", "input_sample": "a b"},
    "job_digest": "0" * 64, "overtile": "0.2.0", "owner": "abc", "created": True,
    "provenance": {"input": "/in.zarr", "input_path": "", "overtile": "0.2.0",
                   "created": "2026-01-01", "weights": {"digest": "0" * 64}},
    "figures": FIGURES, "levels": ["1"], "pyramid": "complete", "objects": 3,
}  # fmt: skip
SHARES = {"shards": [1, 1], "shards_skipped": [0, 0]}


@st.composite
def record_examples(draw):
    """Return an output whose record is wrong."""
    shares = draw(st.sampled_from([{}, SHARES]))
    done = {**V3, "shape": [1, 1, 1], "codecs": [{"name": "bytes"}]}
    done["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}}
    made = {
        "x/zarr.json": json.dumps(GROUP).encode(),
        "x/run/zarr.json": draw(documents({**GROUP, "attributes": {**RECORD, **shares}})),
        "x/run/done/zarr.json": draw(
            st.one_of(st.just(json.dumps(done).encode()), documents(done))
        ),
        "x/run/done/c/0/0/0": draw(st.binary(min_size=1, max_size=2)),
    }
    return {"target": "output", "files": files(**made)}


# ---- TIFF ----


def tiffs():
    """Return small TIFF files of several kinds."""
    grey = np.arange(5 * 32 * 32).reshape(5, 32, 32).astype(np.uint8)
    options = (
        {}, {"compression": "zlib"}, {"tile": (16, 16)}, {"bigtiff": True}, {"imagej": True},
        {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5}}, {"byteorder": ">"},
    )  # fmt: skip
    made = []
    for option in options:
        file = io.BytesIO()
        tifffile.imwrite(file, grey, photometric="minisblack", **option)
        made.append(file.getvalue())
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(grey[0], subifds=1)
        writer.write(grey[0, ::2, ::2], subfiletype=1)
    return [*made, file.getvalue()]


TIFFS = tiffs()


@st.composite
def changed(draw, content, *, most_at):
    """Return bytes of which some are changed, some words are others, or the end is cut off."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(len(made), most_at) - 8))
        width = draw(st.sampled_from([1, 2, 4, 8]))
        value = draw(st.one_of(
            st.integers(0, 300), st.sampled_from([8, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63, at]),
        ))  # fmt: skip
        made[at : at + width] = (value % 256**width).to_bytes(
            width, draw(st.sampled_from(["little", "big"]))
        )
    end = draw(st.sampled_from([len(made)] * 4 + [draw(st.integers(0, len(made)))]))
    return bytes(made[:end])


@st.composite
def tiff_examples(draw):
    """Return a TIFF file with changed bytes: in its header, its tags, its offsets."""
    base = draw(st.sampled_from(TIFFS))
    start = int.from_bytes(base[4:8], "little") if base[:3] == b"II*" else 8
    tail = draw(changed(base[start:], most_at=600))
    head = base[:start]
    if draw(st.sampled_from([True, *[False] * 5])):
        head = draw(changed(head, most_at=16))
    return {"target": "volume", "files": files(x=head + tail)}


# ---- weights and packages ----

DEMO = (BUNDLED / "demo.safetensors").read_bytes()
START = 8 + int.from_bytes(DEMO[:8], "little")
HEADER = json.loads(DEMO[8:START])


@st.composite
def header_examples(draw):
    """Return weights whose header lies about sizes, offsets, types, or states another config."""
    header = json.loads(json.dumps(HEADER))
    metadata = header["__metadata__"]
    which = draw(st.sampled_from(["header", *metadata]))
    if which == "header":
        text = draw(documents(header))
    else:
        metadata[which] = draw(documents(json.loads(metadata[which]))).decode(errors="replace")
        text = json.dumps(header).encode()
    stated = draw(st.sampled_from([len(text)] * 6 + [0, len(text) - 1, 2**24, 2**32, 2**63]))
    content = stated.to_bytes(8, "little") + text + DEMO[START:]
    end = draw(st.sampled_from([len(content)] * 4 + [8, 9, len(content) - 1]))
    return {"target": "weights", "files": files(x=content[:end])}


def packages():
    """Return archives of models, one with a bomb, one that would unpack outside."""
    made = []
    for names in (
        ["rdf.yaml", "weights.pt"], ["archive/data.pkl"], ["../../x", "/etc/x"], ["a.npy"],
        [f"{n}" for n in range(200)], ["code/constants.pkl"],
    ):  # fmt: skip
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, b"\0" * 200_000)
        made.append(file.getvalue())
    bomb = "format_version: 0.5\ntype: model\na: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n"
        for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    return [*made, bomb.encode(), b"\x80\x04\x95" + bytes(20), b"\x1f\x8b\x08" + bytes(20)]


PACKAGES = packages()


@st.composite
def package_examples(draw):
    """Return a model of another format with changed bytes."""
    base = draw(st.sampled_from(PACKAGES))
    tail = draw(changed(base[-120:], most_at=120))
    return {"target": "weights", "files": files(x=base[:-120] + tail)}


# ---- profiles and words ----

PROFILES = (
    {"kind": "slurm", "partition": "gpu", "walltime": "02:00:00", "drain_s": 60.0, "jobs": 2,
     "memory_per_job": "8GiB", "gpus_per_job": 0, "cpus_per_job": 4, "prologue": ["true"],
     "job_name": "a", "local_directory": "/scratch/$USER", "scheduler_port": 0},
    {"kind": "local", "workers": 2, "threads_per_worker": 3, "timeout_s": 1.0},
    {"kind": "tcp://127.0.0.1:1", "first_worker_s": 3.0, "dashboard": ":0"},
    {"network": {"dims": 2, "levels": 2, "kernels": [[3, 3], [3, 3]]},
     "training": {"steps": 3, "patch": [16, 16], "augment": {"noise": 0.1}},
     "labels": {"rule": "boundary"}, "class_names": ["a", "b"]},
)  # fmt: skip


def toml_text(value):
    """Return a value in TOML; None is a date, which JSON does not have."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "1979-05-27"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value) if isinstance(value, str) else str(value)


@st.composite
def profile_examples(draw):
    """Return TOML with wrong values, cut off, nested too deep, or of any bytes."""
    table = json.loads(json.dumps(draw(st.sampled_from(PROFILES))))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places_in(table))))
        container[key] = draw(VALUES)
    if draw(st.booleans()):
        table[draw(WORDS)] = draw(VALUES)
    lines = [f"{json.dumps(key)} = {toml_text(value)}" for key, value in table.items()]
    text = "\n".join(lines).encode(errors="replace")
    how = draw(st.sampled_from([*["whole"] * 8, "cut", "deep", "long", "bytes"]))
    if how == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    elif how == "deep":
        text += b"\nx = " + b"[" * draw(st.sampled_from([200, 20_000]))
    elif how == "long":
        text += b"\ny = " + b"9" * draw(st.sampled_from([300, 5000]))
    elif how == "bytes":
        text = draw(st.binary(max_size=60))
    return {"target": "profile", "files": files(**{"x.toml": text})}


@functools.cache
def options_by_command():
    """Return the names of the options of every command."""
    parser = make_parser()
    (commands,) = (action for action in parser._actions if action.choices)
    return {name: sorted(commands.choices[name]._option_string_actions) for name in COMMANDS}


ODD = st.one_of(
    WORDS, NUMBERS.map(str),
    st.sampled_from(["--", "-", "-rf", "9" * 5000, "nan", "inf", "-inf", "1,2,3", "-1,2,3", "²",
                     "٣", "0:1:1e-300", "1:0:0", "0:4,0:4,0:4", "1nm", "9e999GiB", "1/2", "2/1",
                     "0/0",
                     "percentile:1:99@x", "range:nan:1", ",,,", "a=b", "s3://me:se/cret@b", "{}",
                     "1e400", "s3://[::1]:9/x", "a::b", "~", "\udcff", "a" * 300]),
)  # fmt: skip


@st.composite
def argument_examples(draw):
    """Return the words of a command, some of them wrong."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    words = [command, *draw(st.lists(ODD, max_size=3))]
    for option in draw(st.lists(st.sampled_from(options_by_command()[command]), max_size=5)):
        joined = draw(st.booleans())
        value = draw(ODD)
        words += [f"{option}={value}"] if joined else [option, value]
    kept = [word for word in words if word not in ("-h", "--help", "--version")]
    return {"target": "arguments", "words": [word for word in kept if "\0" not in word]}


EXAMPLES = {
    "zarr": zarr_examples(), "ome": ome_examples(), "record": record_examples(),
    "tiff": tiff_examples(), "header": header_examples(), "package": package_examples(),
    "profile": profile_examples(), "arguments": argument_examples(),
}  # fmt: skip
SLOW_IS_FINE = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "database": None,
}  # fmt: skip


def check(kind, reader, how):
    """Try examples of a kind; raise for the first one, made small, that is not read or refused."""

    @settings(how)
    @given(EXAMPLES[kind])
    def law(example):
        outcome, text = reader.outcome(kind, example)
        assert outcome in RIGHT, f"{outcome}: {text}\n{shown(example)}"

    law()


def shown(example):
    """Return an example with its files as text."""
    contents = {
        name: base64.b64decode(content)[:3000] for name, content in example.get("files", {}).items()
    }
    return {**example, "files": contents}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_few_wrong_files_are_read_or_refused(kind, reader):
    check(kind, reader, settings(max_examples=FEW[kind], derandomize=True, **SLOW_IS_FINE))


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", EXAMPLES)
def test_many_wrong_files_are_read_or_refused(kind, reader):
    check(kind, reader, settings(max_examples=MANY, **SLOW_IS_FINE))
