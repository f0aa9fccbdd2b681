"""The password of a URI is not on the Dask dashboard, which all users of a machine can read."""

from __future__ import annotations

import base64
import json
import re
import signal
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import zarr

from flows.cli.main import main

SECRET = "pl4nted-s3cret"
PAGES = (
    "info/main/workers.html", "info/main/exceptions.html", "info/main/logs.html", "metrics",
    "json/counts.json", "individual-plots.json",
)  # fmt: skip


class Guarded(SimpleHTTPRequestHandler):
    """Serves files with a password; the last chunks only until the output exists."""

    seen: ClassVar[set[str]] = set()
    output: ClassVar[Path]

    def do_GET(self):
        self.seen.add(self.headers.get("Authorization"))
        if re.search(r"/c/1/", self.path) and self.output.exists():
            self.send_error(500)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, textured):
    """Return the URI of a volume, with user and password in it."""
    folder = tmp_path_factory.mktemp("guarded")
    zarr.create_array(folder / "in.zarr", data=textured((16, 32, 32)), chunks=(8, 32, 32))
    handler = partial(Guarded, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:{SECRET}@127.0.0.1:{server.server_address[1]}/in.zarr"
        server.shutdown()


@pytest.fixture(scope="module")
def failed(guarded, one_worker, weights, tmp_path_factory):
    """Read the volume by the shell, with a block that is set aside."""
    Guarded.output = tmp_path_factory.mktemp("out") / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
        code = main(
            ["segment", guarded, str(Guarded.output), "--weights", weights("3d"), "--block",
             "8,16,16", "--cluster", one_worker.scheduler.address]
        )  # fmt: skip
    assert code == 1
    header = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert Guarded.seen == {f"Basic {header}"}, "the password was not needed"


@pytest.mark.usefixtures("failed")
def test_nothing_that_the_dashboard_can_show_of_a_run_shows_the_password(one_worker):
    root = one_worker.dashboard_link.removesuffix("status")
    texts = {}
    for page in PAGES:
        with urllib.request.urlopen(f"{root}{page}", timeout=30) as answer:
            texts[page] = answer.read().decode(errors="replace")
    assert all(texts.values())
    texts["logs of workers"] = json.dumps(one_worker.get_worker_logs())
    texts["log of the scheduler"] = json.dumps(one_worker.get_scheduler_logs())
    texts["events"] = repr(one_worker.get_events())
    texts["tasks"] = one_worker.run_on_scheduler(tasks_and_computations)
    assert "Compute Failed" in texts["logs of workers"], "no task failed"
    assert [page for page, text in texts.items() if SECRET in text] == []


def tasks_and_computations(dask_scheduler):
    """Return what the scheduler keeps of tasks and errors for its pages, as text."""
    tasks = [
        (str(task.key), task.exception_text, task.traceback_text, str(task.annotations))
        for task in dask_scheduler.tasks.values()
    ]
    spans = [span.name for span in dask_scheduler.extensions["spans"].spans.values()]
    errors = [repr(error) for error in dask_scheduler.erred_tasks]
    code = [str(computation.code) for computation in dask_scheduler.computations]
    return repr((tasks, spans, errors, code))
