"""Secrets of the environment and of a store's answers reach nothing that Prefect keeps or logs."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import zarr
from prefect.client.schemas.sorting import LogSort

MARK = "pLanted7"
"""In every secret of these tests; the rest names where it was planted."""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}secret/key+of=aws",
    "AWS_SESSION_TOKEN": f"{MARK}session",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}
ANSWER = f"<Error><Code>ExpiredToken</Code><Message>{MARK}answer</Message></Error>".encode()
MOST = 200
"""Of the API, per request."""


@pytest.fixture(scope="module")
def planted_front(tmp_path_factory, new_front):
    """Return a front whose environment holds secrets, as that of a login node may."""
    front = new_front(tmp_path_factory.mktemp("home"), **ENVIRONMENT)
    try:
        code, printed = front.overtile("prefect", "up")
        assert code == 0, printed
        yield front
    finally:
        code, printed = front.overtile("prefect", "down", "--cancel")
    assert code == 0, printed


@pytest.fixture
def parameters(tmp_path, textured, weights):
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((4, 32, 32)), chunks=(1, 32, 32),
        dimension_names=("z", "y", "x"),
    )  # fmt: skip
    return {
        "input": str(tmp_path / "in.zarr"), "output": str(tmp_path / "out.zarr"),
        "weights": weights("2d"), "options": {"block": [1, 32, 32]}, "cluster": {"workers": 1},
    }  # fmt: skip


@pytest.fixture
def refusing_store(tmp_path):
    """Serve the metadata of the volume; every chunk is refused, with a secret in the answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = tmp_path / self.path.lstrip("/")
            is_chunk = "/c/" in self.path
            status = 400 if is_chunk else 200 if path.is_file() else 404
            content = path.read_bytes() if status == 200 else ANSWER if is_chunk else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/in.zarr"
        server.shutdown()


def kept_by_the_api(front):
    """Return all that the API gives of runs, tasks, logs and artifacts, as text."""
    with front.client() as client:
        parts = [
            client.read_flow_runs(limit=MOST), client.read_task_runs(limit=MOST),
            client.read_logs(limit=MOST, sort=LogSort.TIMESTAMP_ASC),
            client.read_artifacts(limit=MOST), client.read_deployments(limit=MOST),
        ]  # fmt: skip
    return [json.dumps(one.model_dump(mode="json")) for part in parts for one in part]


def check_clean(front):
    texts = kept_by_the_api(front)
    assert not [text for text in texts if MARK in text]
    files = [path for path in front.home.rglob("*") if path.is_file()]
    assert {"server.log", "worker.log"} <= {path.name for path in files}
    assert [path for path in files if path.suffix == ".db"], "Prefect's database is elsewhere"
    assert not [path for path in files if MARK.encode() in path.read_bytes()]
    return texts


@pytest.mark.slow
def test_a_run_that_succeeds_leaves_no_secret_in_prefect(planted_front, parameters):
    flow_run = planted_front.run("segment-volume", **parameters)
    assert planted_front.ended(flow_run).is_completed()
    texts = check_clean(planted_front)
    assert any(flow_run in text for text in texts)


@pytest.mark.slow
def test_a_run_that_a_store_refuses_leaves_no_secret_in_prefect(
    planted_front, parameters, refusing_store
):
    flow_run = planted_front.run("segment-volume", **{**parameters, "input": refusing_store})
    state = planted_front.ended(flow_run)
    assert state.is_failed(), state
    assert MARK not in state.message
    check_clean(planted_front)
