"""S3, HTTP and memory stores return the same voxels as a local store.

S3 is a real server of the protocol on loopback; HTTP a server with ranges and without listings.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import fsspec.config
import numpy as np
import pytest
import tifffile
import zarr

from pipeline.base import store_errors as explain
from pipeline.base.errors import OutputError, VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.base.stores import open_array, open_group
from pipeline.output.guard import check_output, delete_output
from pipeline.output.image_spec import ImageSpec
from pipeline.output.ome_write import create_images
from pipeline.volume.volume import VolumeSource, find_volume, open_volume

VALUES = np.random.default_rng(3).integers(1, 60000, (6, 20, 24)).astype(np.uint16)


def spec(**changes: Any) -> ImageSpec:
    fields: dict[str, Any] = {
        "name": "cells", "is_label": True, "path": "labels/cells", "axes": "zyx",
        "dtype": "uint16", "class_names": (), "shapes": (VALUES.shape,), "shards": ((4, 16, 16),),
        "chunks": ((2, 8, 8),), "voxel_sizes": ((2.0, 1.0, 1.0),),
        "translations": ((0.0, 0.0, 0.0),), "unit": ("micrometer",) * 3,
    }  # fmt: skip
    return ImageSpec(**(fields | changes))


def write(uri: str, version: Any) -> None:
    output = Location.parse(uri)
    create_images(output, (), version=version)
    create_images(output, [spec()], version=version)
    open_array(output, "labels/cells/0")[...] = VALUES


def read_all(source: VolumeSource) -> np.ndarray:
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves files, whole or in ranges; lists nothing; denies paths under ``closed``."""

    def send_head(self) -> Any:
        path = Path(self.translate_path(self.path))
        if "closed" in path.parts:
            return self.send_error(403)
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        range_header = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if range_header:
            first, last = range_header.groups()
            content = content[int(first) : int(last or -2) + 1 or None] if first else (
                content[-int(last) :]
            )  # fmt: skip
        self.send_response(206 if range_header else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def http(tmp_path) -> Iterator[str]:
    def handler(*arguments: Any) -> RangeHandler:
        return RangeHandler(*arguments, directory=str(tmp_path))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_s3_returns_the_voxels_that_were_written(s3, version):
    uri = f"{s3}/{version}/out.zarr"
    write(uri, version)
    source = find_volume(f"{uri}/labels/cells")
    assert (source.voxel_size, source.unit) == ((2.0, 1.0, 1.0), ("micrometer",) * 3)
    np.testing.assert_array_equal(read_all(source)[0], VALUES)


def write_files(folder: Path) -> None:
    """Write a stack as one compressed TIFF of tiles, and as slices."""
    tifffile.imwrite(folder / "a.ome.tif", VALUES, tile=(16, 16), compression="zlib", ome=True)
    for number, plane in enumerate(VALUES, 8):
        tifffile.imwrite(folder / f"s{number}.tif", plane, compression="zlib")


@pytest.mark.parametrize("name", ["a.ome.tif", "s*.tif"])
def test_s3_returns_the_voxels_of_tiff_files(s3, tmp_path, name):
    write_files(tmp_path)
    for path in tmp_path.iterdir():
        boto3.client("s3").upload_file(str(path), "overtile-test", f"tiff/{path.name}")
    source = find_volume(f"{s3}/tiff/{name}", axes="zyx")
    np.testing.assert_array_equal(read_all(source)[0], VALUES)


def test_http_returns_the_voxels_of_a_tiff_file(http, tmp_path):
    write_files(tmp_path)
    source = find_volume(f"{http}/a.ome.tif", axes="zyx")
    np.testing.assert_array_equal(read_all(source)[0], VALUES)
    with pytest.raises(VolumeError, match="gone"):
        find_volume(f"{http}/gone.tif")


@pytest.mark.slow
def test_threads_read_from_s3_concurrently(s3):
    write(f"{s3}/threads.zarr", "0.5")
    volume = open_volume(find_volume(f"{s3}/threads.zarr/labels/cells"))
    boxes = [Box((z, 0, 0), (z + 1, 20, 24)) for z in range(6)] * 4
    with ThreadPoolExecutor(8) as threads:
        slices = list(threads.map(volume.read, boxes))
    for box, read in zip(boxes, slices, strict=True):
        np.testing.assert_array_equal(read[0, 0], VALUES[box.start[0]])


def test_an_output_on_s3_is_recognised_and_deleted(s3):
    output, source = (Location.parse(f"{s3}/{path}") for path in ("guard/out.zarr", "in.zarr"))
    assert check_output(output, source=source, overwrite=False) == "absent"
    write(output.uri, "0.5")
    write(f"{s3}/guard/neighbour.zarr", "0.5")
    with pytest.raises(OutputError, match="not made by overtile"):
        check_output(output, source=source, overwrite=False)
    open_group(output, mode="r+").create_group("run").attrs["job"] = {}
    assert check_output(output, source=source, overwrite=False) == "ours"
    delete_output(output)
    assert check_output(output, source=source, overwrite=False) == "absent"
    assert find_volume(f"{s3}/guard/neighbour.zarr/labels/cells").shape == VALUES.shape


def test_nothing_but_zarr_is_deleted_on_s3(s3):
    write(f"{s3}/mixed/out.zarr", "0.5")
    boto3.client("s3").put_object(
        Bucket="overtile-test", Key="mixed/out.zarr/thesis.txt", Body=b"years of work"
    )
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        delete_output(Location.parse(f"{s3}/mixed/out.zarr"))
    assert find_volume(f"{s3}/mixed/out.zarr/labels/cells").shape == VALUES.shape


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://overtile-test/nothing.zarr", "holds no image"),
        ("s3://overtile-nobody/in.zarr", "no such bucket"),
    ],
)
def test_the_error_of_a_missing_s3_volume_is_one_line(s3, uri, message):
    with pytest.raises(VolumeError, match=message) as caught:
        find_volume(uri)
    assert "\n" not in str(caught.value)


def test_the_error_of_missing_s3_credentials_names_the_variables_to_set(aws, monkeypatch, tmp_path):
    for name in aws:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(VolumeError, match=r"AWS_PROFILE.*FSSPEC_S3_ANON"):
        find_volume("s3://overtile-anonymous/in.zarr")


@pytest.mark.parametrize(
    "retries",
    [pytest.param(None, marks=pytest.mark.slow), {"mode": "standard", "total_max_attempts": 1}],
    ids=["as set", "none"],
)
def test_an_unreachable_s3_is_reported_within_seconds(retries, aws, monkeypatch):
    for name, value in {**aws, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    if retries:  # the user's own settings
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": retries}})
    started = time.monotonic()
    with pytest.raises(VolumeError, match="cannot be reached"):
        find_volume(f"s3://overtile-out-of-reach/{bool(retries)}.zarr")
    assert time.monotonic() - started < 20


def test_a_server_that_never_answers_times_out(monkeypatch):
    monkeypatch.setattr(explain, "ANSWER_WITHIN_S", 1.0)
    monkeypatch.setattr("pipeline.base.stores.ANSWER_WITHIN_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/in.zarr"
        with pytest.raises(VolumeError, match="no answer within 1 s"):
            find_volume(address)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_http_returns_the_same_voxels_without_listing(http, tmp_path, version):
    write(str(tmp_path / "in.zarr"), version)
    source = find_volume(f"{http}/in.zarr/labels/cells")
    local = find_volume(str(tmp_path / "in.zarr/labels/cells"))
    assert (source.shape, source.voxel_size, source.axes) == (
        local.shape, local.voxel_size, local.axes,
    )  # fmt: skip
    np.testing.assert_array_equal(read_all(source)[0], VALUES)
    assert find_volume(f"{http}/in.zarr/labels/cells/0") == source


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.zarr", "holds no image"),
        ("closed/in.zarr", "access is denied"),
        ("", "holds no image"),
    ],
)
def test_the_error_of_a_missing_or_denied_http_volume_is_one_line(http, path, message):
    with pytest.raises(VolumeError, match=message) as caught:
        find_volume(f"{http.replace('//', '//me:secret@')}/{path}")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_error_of_a_group_over_http_states_that_it_cannot_be_listed(http, tmp_path):
    write(str(tmp_path / "in.zarr"), "0.5")
    with pytest.raises(VolumeError, match=r"no array was found.*every server can list"):
        find_volume(f"{http}/in.zarr")


def test_http_is_never_an_output(http):
    output, source = Location.parse(f"{http}/out.zarr"), Location.parse("in.zarr")
    with pytest.raises(OutputError, match="http cannot be written"):
        check_output(output, source=source, overwrite=True)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_memory_returns_the_written_voxels_to_every_thread(version):
    uri = f"memory://overtile/{version}/out.zarr"
    write(uri, version)
    volume = open_volume(find_volume(f"{uri}/labels/cells"))
    boxes = [Box((z, 0, 0), (z + 1, 20, 24)) for z in range(6)] * 4
    with ThreadPoolExecutor(8) as threads:
        slices = list(threads.map(volume.read, boxes))
    for box, read in zip(boxes, slices, strict=True):
        np.testing.assert_array_equal(read[0, 0], VALUES[box.start[0]])
    output, source = Location.parse(uri), Location.parse("memory://overtile/in.zarr")
    delete_output(output)
    assert check_output(output, source=source, overwrite=False) == "absent"


def test_a_plain_array_on_s3_needs_no_group(s3):
    zarr.create_array(f"{s3}/plain.zarr", data=VALUES, chunks=(4, 8, 8), zarr_format=2)
    source = find_volume(f"{s3}/plain.zarr", axes="cyx", channel=[4, 1])
    np.testing.assert_array_equal(read_all(source)[:, 0], VALUES[[4, 1]])


class UnlistedHandler(RangeHandler):
    """Answers 403 for a file that does not exist, as S3 does where listing is not allowed.

    Denies every file once ``denies_all`` is set, as if credentials had expired.
    """

    denies_all = False

    def send_head(self) -> Any:
        if type(self).denies_all or not Path(self.translate_path(self.path)).is_file():
            return self.send_error(403)
        return super().send_head()


@pytest.fixture
def unlisted(tmp_path) -> Iterator[tuple[str, type[UnlistedHandler]]]:
    class Handler(UnlistedHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()
        thread.join()


LAYOUTS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v3": {"zarr_format": 3},
    "sharded": {"zarr_format": 3, "shards": (6, 20, 24)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_store_that_denies_absent_keys_is_read_and_they_are_fill_values(
    tmp_path, unlisted, layout
):
    uri, _ = unlisted
    array = zarr.create_array(
        tmp_path / "in.zarr", shape=(12, 20, 24), chunks=(3, 10, 12), dtype="u2",
        fill_value=7, **LAYOUTS[layout],
    )  # fmt: skip
    array[:6] = VALUES
    source = find_volume(f"{uri}/in.zarr", axes="zyx")
    expected = np.concatenate([VALUES, np.full((6, 20, 24), 7, "u2")])
    np.testing.assert_array_equal(read_all(source)[0], expected)


def test_an_image_in_a_store_that_denies_absent_keys_has_its_metadata(tmp_path, unlisted):
    uri, _ = unlisted
    for version in ("0.4", "0.5"):
        write(str(tmp_path / version), version)
        source = find_volume(f"{uri}/{version}/labels/cells")
        assert source.voxel_size == (2.0, 1.0, 1.0)
        np.testing.assert_array_equal(read_all(source)[0], VALUES)


def test_a_store_that_denies_everything_is_refused_and_no_voxel_is_invented(tmp_path, unlisted):
    uri, handler = unlisted
    zarr.create_array(tmp_path / "in.zarr", data=VALUES, chunks=(3, 10, 12), zarr_format=2)
    volume = open_volume(find_volume(f"{uri}/in.zarr", axes="zyx"))
    handler.denies_all = True
    with pytest.raises(Exception, match="403"):
        volume.read(Box.of_shape((6, 20, 24)))
    with pytest.raises(VolumeError, match="access is denied"):
        find_volume(f"{uri}/other.zarr")
