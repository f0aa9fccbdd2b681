"""N5 and Precomputed on S3 and HTTP servers give the voxels of a local copy, or one line."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.base.tensorstore_use import kvstore, reason
from pipeline.volume.volume import find_volume, open_volume

ZYX = np.random.default_rng(3).integers(1, 250, (20, 30, 40)).astype(np.uint8)


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves files, whole or in ranges; lists nothing; denies paths under ``closed``."""

    def send_head(self) -> Any:
        path = Path(self.translate_path(self.path))
        if "closed" in path.parts or not path.is_file():
            return self.send_error(403 if "closed" in path.parts else 404)
        content = whole = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(whole) - 1)
            content = whole[first : last + 1]
        self.send_response(206 if asked else 200)
        if asked:
            end = first + len(content) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(whole)}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def http(tmp_path) -> Iterator[str]:
    handler = partial(RangeHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def write(location: str, kind: str) -> str:
    """Write an image of one level, in shards if it is Precomputed."""
    folder = kvstore(Location.parse(location), VolumeError)
    if kind == "n5":
        metadata = {
            "dimensions": [40, 30, 20], "blockSize": [16, 12, 8], "dataType": "uint8",
            "compression": {"type": "gzip"},
        }  # fmt: skip
        spec = {"driver": "n5", "kvstore": folder, "metadata": metadata}
        tensorstore.open(spec, create=True).result().write(ZYX.T).result()
        return location
    scale = {
        "size": [40, 30, 20], "chunk_size": [16, 12, 8], "resolution": [4, 4, 40],
        "encoding": "raw", "key": "s 0",
        "sharding": {
            "@type": "neuroglancer_uint64_sharded_v1", "preshift_bits": 1, "minishard_bits": 1,
            "shard_bits": 2, "hash": "identity", "data_encoding": "gzip",
        },
    }  # fmt: skip
    spec = {
        "driver": "neuroglancer_precomputed", "kvstore": folder, "scale_metadata": scale,
        "multiscale_metadata": {"data_type": "uint8", "num_channels": 1, "type": "image"},
    }  # fmt: skip
    tensorstore.open(spec, create=True).result().write(ZYX.T[..., None]).result()
    return location


def read_all(location: str) -> np.ndarray:
    source = find_volume(location)
    return open_volume(source).read(Box.of_shape(source.shape_zyx))[0]


@pytest.mark.parametrize("kind", ["n5", "precomputed"])
def test_s3_gives_the_voxels_that_were_written(s3, kind):
    np.testing.assert_array_equal(read_all(write(f"{s3}/some folder/{kind}", kind)), ZYX)


@pytest.mark.parametrize("kind", ["n5", "precomputed"])
@pytest.mark.parametrize("user", ["", "me:s3cret@"])
def test_http_gives_the_voxels_of_the_folder(http, tmp_path, kind, user):
    write(str(tmp_path / "some folder" / kind), kind)
    np.testing.assert_array_equal(read_all(f"http://{user}{http}/some folder/{kind}"), ZYX)


@pytest.mark.parametrize("kind", ["n5", "precomputed"])
def test_errors_of_a_server_show_no_password(http, tmp_path, kind):
    write(str(tmp_path / kind), kind)
    source = find_volume(f"http://me:s3cret@{http}/{kind}")
    for chunk in (path for path in (tmp_path / kind).rglob("*") if path.is_file()):
        if chunk.suffix != ".json" and chunk.name != "info":
            chunk.write_bytes(chunk.read_bytes()[:9])
    with pytest.raises(VolumeError, match="cannot be read") as caught:
        open_volume(source).read(Box.of_shape(source.shape_zyx))
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_of_tensorstore_are_one_line_without_password_and_specification():
    location = Location("http://me:s3cret@host/a")
    error = ValueError("s3cret: error at \"http://me:s3cret@host/a/x\"\n [spec='s3cret']")
    assert reason(error, location) == '***: error at "http://***@host/a/x"'


def test_a_server_that_cannot_be_reached_is_reported_soon(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(VolumeError, match="cannot be reached"):
        find_volume(f"http://127.0.0.1:{port}/a.n5")
    assert time.monotonic() - start < 10
