"""Metrics of a run, as Prometheus reads them from Dask's page, and the dashboard for them."""

import json
import os
import re
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace
from typing import ClassVar

import pytest
import zarr
from distributed import Client
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from deploy.processes.identity import identify
from flows.metrics import publish
from flows.metrics.collector import RunCollector
from flows.metrics.publish import published, targets_directory
from flows.metrics.work import Sample, Work
from flows.text.progress_line import ProgressLine
from pipeline import SegmentRequest, SegmentRun
from pipeline.base.text import duration_text
from pipeline.ledger.figures import Figures
from pipeline.ledger.progress import Progress
from pipeline.segmentation.sequence import complete
from unet import UNetPredictor

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/overtile.json").read_text())


def scraped(link):
    """Return the samples of overtile on a page of metrics: {(name, labels): value}."""
    with urllib.request.urlopen(link.replace("/status", "/metrics"), timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(("overtile", "dask_scheduler"))
    }


class Asked:
    """A run that notes which threads ask it."""

    by: ClassVar[set[str]] = set()

    def __init__(self, run):
        self._run = run

    def progress(self):
        self.by.add(threading.current_thread().name)
        return self._run.progress()


HERE = asdict(identify(os.getpid()))
ENDED = {"restart": {"boot": "another"}, "number": {"pid": 2**22 + 1}, "start": {"start": "1"}}
"""Of these records, the process has certainly ended."""
NOT_SEEN = {
    "alive": {}, "host": {"host": "other", "boot": "another"},
    "container": {"namespace": "pid:[1]"}, "user": {"user": os.getuid() + 1},
}  # fmt: skip
UNKNOWN = ("other-9.json", f"{gethostname()}-9.json", f"{gethostname()}-x-9.json")
"""Files that do not state their process."""
OLD = f"{gethostname()}-8.json"
"""Such a file, written before the machine started."""


def write_others():
    """Write the files of other processes."""
    folder = targets_directory()
    folder.mkdir(parents=True)
    for name, other in {**ENDED, **NOT_SEEN}.items():
        labels = {f"{publish.META}{key}": str(of) for key, of in {**HERE, **other}.items()}
        (folder / f"{name}.json").write_text(json.dumps([{"targets": [], "labels": labels}]))
    incomplete = {f"{publish.META}pid": "1", f"{publish.META}user": "0"}
    for name in UNKNOWN:
        (folder / name).write_text(json.dumps([{"targets": [], "labels": incomplete}]))
    for name in (OLD, "other-8.json"):
        (folder / name).touch()
        os.utime(folder / name, (1, 1))


@pytest.fixture(scope="module")
def seen(tmp_path_factory, weights, textured):
    """One run: its metrics while published and after, its figures, the discovered targets."""
    folder = tmp_path_factory.mktemp("metrics")
    zarr.create_array(folder / "in.zarr", data=textured((1, 8, 20, 20))[0])
    request = SegmentRequest(
        input=str(folder / "in.zarr"), output=str(folder / "out.zarr"), block=(4, 8, 8)
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0",
               set_as_default=False) as client,
    ):  # fmt: skip
        patch.setattr(publish, "SAMPLE_EVERY_S", 0.05)
        patch.setenv("XDG_STATE_HOME", str(folder))
        write_others()
        link = client.dashboard_link
        run = SegmentRun.open(request, UNetPredictor(weights("3d"), precision="fp32"), client)
        with published(link, output="out.zarr") as works:
            works.append(
                Work(run=Asked(run), name="segment", voxel_bytes=run.prepared.output_voxel_bytes)
            )
            works.append(Work(run=run, name="objects", objects=lambda: 7))
            complete(run)
            done = ("stage", "done"), ("work", "segment")
            end_at = time.monotonic() + 30
            while ("overtile_run_info", ("output", "out.zarr"), *done) not in scraped(link):
                assert time.monotonic() < end_at
                time.sleep(0.05)
            during = scraped(link)
            files = {file.name: file.read_text() for file in sorted(targets_directory().iterdir())}
        return during, scraped(link), run, files, link


def test_the_page_of_the_scheduler_states_blocks_voxels_bytes_and_objects(seen):
    during, _, run, *_ = seen
    figures, work = run.progress().figures, ("work", "segment")
    assert during["overtile_blocks", ("state", "done"), work] == run.blocks == 18
    assert during["overtile_blocks", ("state", "set_aside"), work] == 0
    assert during["overtile_voxels_total", work] == figures.voxels == 8 * 20 * 20
    assert during["overtile_read_bytes_total", work] == figures.bytes_read
    assert during["overtile_written_bytes_total", work] == figures.voxels
    assert during["overtile_workers", work] == 1
    assert during["overtile_objects", ("work", "objects")] == 7
    for stage, spent in figures.stage_seconds.items():
        assert during["overtile_stage_seconds_total", ("stage", stage), work] == spent
    info = ("output", "out.zarr"), ("stage", "done"), work
    assert during["overtile_run_info", *info] == 1


def test_a_request_asks_no_run_since_it_is_answered_in_the_thread_that_runs_need(seen):
    assert Asked.by == {"metrics"}


def test_after_the_run_nothing_is_published(seen):
    _, after, *_ = seen
    assert {name for name, *_ in after if name.startswith("overtile")} == set()


def test_prometheus_discovers_a_run_by_its_file_and_files_of_ended_runs_are_removed(seen):
    *_, files, link = seen
    (own,) = (name for name in files if name.startswith(f"{gethostname()}-{os.getpid()}-"))
    others = {*(f"{name}.json" for name in NOT_SEEN), *UNKNOWN, "other-8.json"}
    assert set(files) == {own, *others}, "they may run"
    (target,) = json.loads(files[own])
    assert f"http://{target['targets'][0]}/status" == link
    stored = {name: of for name, of in target["labels"].items() if not name.startswith("__meta_")}
    assert stored == {"output": "out.zarr"}


def test_a_container_of_the_same_host_name_and_process_number_has_another_file(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    names = set()
    for namespace in ("pid:[1]", "pid:[2]"):
        monkeypatch.setattr("os.readlink", lambda path, namespace=namespace: namespace)
        with published("http://host:1/status", output="a"):
            names |= {file.name for file in targets_directory().iterdir()}
    assert len(names) == 2


def test_every_metric_of_the_dashboard_is_on_the_page(seen):
    names = {name for name, *_ in seen[0]}
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"(?:overtile|dask)_\w+", query)}
    assert len(asked) >= 10
    assert asked - names <= {"overtile_seconds_left"}, "stated once a block is done"


class Half:
    """A run of which half is done."""

    def progress(self):
        return Progress(blocks=10, done=5, figures=Figures(blocks=5), workers=1)


class Slower:
    """A run that does a block per second, and later one in ten seconds."""

    now = 0.0

    def progress(self):
        done = int(min(self.now, 100) + max(self.now - 100, 0) / 10)
        figures = Figures(blocks=done, voxels=done, seconds=self.now)
        return Progress(blocks=1000, done=done, figures=figures, workers=1)


def test_the_time_left_is_the_one_that_the_terminal_shows(monkeypatch):
    run, line = Slower(), ProgressLine()
    work = Work(run=run, name="segment")
    start = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: start + run.now)  # not of the whole process
    monkeypatch.setattr("pipeline.ledger.run_time_left.time", clock)
    for run.now in range(1, 1300):
        sample = Sample.take(work, number=1, output="out.zarr")
        shown = line(run.progress())
        if sample.seconds_left is not None:
            assert shown.endswith(f", {duration_text(sample.seconds_left)} left")
    assert sample.seconds_left > 1.5 * run.progress().seconds_left, "the mean speed was higher"
    metrics = {one.name: one for one in RunCollector(lambda: [sample]).collect()}
    assert metrics["overtile_seconds_left"].samples[0].value == sample.seconds_left


def test_runs_of_one_process_are_published_together_on_one_target(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "SAMPLE_EVERY_S", 0.01)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def target():
        files = list(targets_directory().glob("*"))
        return [json.loads(file.read_text())[0]["targets"] for file in files]

    with ExitStack() as first_run:
        enter = first_run.enter_context
        enter(published("http://of-others:1/status", output="0", is_existing=True))
        assert target() == [], "its page is that of another process"
        enter(published("http://host:1/status", output="a")).append(
            Work(run=Half(), name="segment")
        )
        with ExitStack() as second_run:
            enter = second_run.enter_context
            works = enter(published("http://host:2/status", output="b"))
            works.append(Work(run=Half(), name="segment"))
            latest, page = time.monotonic() + 20, ""
            while page.count("overtile_workers{") < 2 and time.monotonic() < latest:
                page = generate_latest(REGISTRY).decode()
            lines = [line.rpartition(" ")[0] for line in page.splitlines() if line[0] != "#"]
            assert len(set(lines)) == len(lines), "Prometheus refuses a page with a series twice"
            assert {'overtile_workers{work="segment 2"}', 'overtile_workers{work="segment 3"}'} <= {
                *lines
            }
            assert target() == [["host:1"]]
            first_run.close()
            assert target() == [["host:2"]]
    assert target() == []
