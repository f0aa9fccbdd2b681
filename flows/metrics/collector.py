"""What Prometheus reads of a run: the counts of its ledger and the sums of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .work import Sample


class RunCollector:
    """Yields the metrics of the runs of this process.

    Called per request, in the thread of Dask's event loop: it asks no run.
    """

    def __init__(self, samples: Callable[[], Sequence[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, labelled with the work that it is about."""
        if samples := self._samples():
            yield from _counts(samples)
            yield from _sums(samples)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"overtile_{name}", text, labels=["work", *labels])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"overtile_{name}", text, labels=["work", *labels])


def _counts(samples: Sequence[Sample]) -> Iterator[Metric]:
    info = _gauge("run_info", "A run, its output and its stage; always 1", "output", "stage")
    blocks = _gauge("blocks", "Blocks by state: done, left, set_aside, skipped", "state")
    worked = _gauge("blocks_worked", "Blocks done, and the parts done of blocks in progress")
    left = _gauge("seconds_left", "Time left of the stage in progress, as the terminal shows it")
    workers = _gauge("workers", "Dask workers of the run")
    objects = _gauge("objects", "Objects found, once they are numbered")
    for sample in samples:
        name, progress = sample.name, sample.progress
        info.add_metric([name, sample.output, progress.stage], 1)
        states = {"done": progress.done, "left": progress.missing, "skipped": progress.skipped,
                  "set_aside": len(progress.set_aside)}  # fmt: skip
        for state, count in states.items():
            blocks.add_metric([name, state], count)
        worked.add_metric([name], progress.worked)
        if sample.seconds_left is not None:
            left.add_metric([name], sample.seconds_left)
        workers.add_metric([name], progress.workers or 0)
        if sample.objects is not None:
            objects.add_metric([name], sample.objects)
    yield from (info, blocks, worked, left, workers, objects)


def _sums(samples: Sequence[Sample]) -> Iterator[Metric]:
    voxels = _counter("voxels", "Voxels that this run has computed")
    seconds = _counter("run_seconds", "Wall time of this run")
    stages = _counter("stage_seconds", "Time of all worker threads, by stage of a block", "stage")
    read = _counter("read_bytes", "Bytes of input that this run has read, decompressed")
    written = _counter("written_bytes", "Bytes that this run has written, before compression")
    bad = _counter("bad_voxels", "Voxels that were NaN or infinite, and were read as 0")
    for sample in samples:
        work, figures, name = sample.work, sample.progress.figures, sample.name
        voxels.add_metric([name], figures.voxels)
        seconds.add_metric([name], figures.seconds)
        for stage, spent in figures.stage_seconds.items():
            stages.add_metric([name, stage], spent)
        read.add_metric([name], figures.bytes_read)
        if work.voxel_bytes:
            written.add_metric([name], figures.voxels * work.voxel_bytes)
        bad.add_metric([name], figures.bad_voxels)
    yield from (voxels, seconds, stages, read, written, bad)
