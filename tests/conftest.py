"""What the tests share: networks whose scores really vary, whole-volume references, clusters."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DO_NOT_TRACK"] = "1"
if sys.version_info[:2] == (3, 11):  # see pipeline/base/worker_profile.py; some tests start Dask
    os.environ["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

import hypothesis
import numpy as np
import pytest
import torch
import zarr

sys.path.insert(0, str(Path(__file__).parents[1]))

from deploy import open_cluster
from deploy.clusters.fork_server import start_fork_server
from deploy.tls.keys import make_keys
from faults.commands import Commands
from unet import UNet, UNetConfig, load_weights, save_weights

ROOT = Path(__file__).parents[1]

# Started in the background of a script, the suite would ignore Ctrl-C, and so would what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it

# A busy machine takes longer than hypothesis's 200 ms over an example: that is not a failure.
hypothesis.settings.register_profile("overtile", deadline=None)
hypothesis.settings.load_profile("overtile")

NETWORKS = {
    "2d": UNetConfig(dims=2, base_channels=4, levels=3, classes=3),
    "2d-rgb": UNetConfig(dims=2, base_channels=4, levels=2, in_channels=3),
    "3d": UNetConfig(dims=3, base_channels=4, levels=2),
    "3d-anisotropic": UNetConfig(
        dims=3,
        base_channels=4,
        levels=3,
        classes=3,
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        pooling=((1, 2, 2), (2, 2, 2)),
        norm="batch",
    ),
}


@functools.cache
def uses_prefect(file):
    """Return whether tests of a file use the Prefect of the session, whose start takes 25 s."""
    return bool(re.search(r"\b(shared_front|server)[,)]", (ROOT / file).read_text()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the tests that share a Prefect: one process has them all, and takes long."""
    items.sort(key=lambda item: not shares_prefect(item.nodeid.partition("::")[0]))


def shares_prefect(file):
    """Return whether tests of a file use the Prefect of the session."""
    return file.startswith("tests/flows/") and uses_prefect(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let ``--dist loadfile`` run the files that use Prefect in one process."""
    from xdist.scheduler import LoadFileScheduling

    class OnePrefect(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "prefect" if shares_prefect(file) else file

    config.option.loadscopereorder = False  # by number of tests, which says little about time
    return OnePrefect(config, log) if config.getvalue("dist") == "loadfile" else None


SLURM_SCRIPT = Path(__file__).parent / "slurm_one_node.sh"
SLURM_TOOLS = (
    "sbatch", "srun", "squeue", "scancel", "scontrol", "slurmctld", "slurmd", "munged",
)  # fmt: skip
SLURM_PROFILE = """
kind = "slurm"
partition = "main"
cpus_per_job = 1
memory_per_job = "3GiB"
interface = "lo"
threads_per_worker = 2
walltime = "15 min"
dashboard = "127.0.0.1:0"
"""


class OneNodeSlurm:
    """A real Slurm of one node with four CPUs and two pretend GPUs."""

    profile = SLURM_PROFILE

    def __init__(self, folder):
        first = int(re.search(r"^FirstJobId=(\d+)", (folder / "slurm.conf").read_text(), re.M)[1])
        self._jobs = range(first, first + 1000)

    def processes(self):
        """Return the processes of the jobs of this Slurm, which are found by their environment."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                job = re.search(rb"(?:^|\0)SLURM_JOB_ID=(\d+)\0", (path / "environ").read_bytes())
                if job and int(job[1]) in self._jobs:
                    found[int(path.name)] = (path / "cmdline").read_bytes().decode()
        return found

    def end_processes(self, *, within_s):
        """Wait until all of them have ended; kill the others, and return them."""
        start = time.monotonic()
        while (left := self.processes()) and time.monotonic() - start < within_s:
            time.sleep(0.2)
        for number in left:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return left

    def queue(self):
        """Return the lines of ``squeue``: jobs that are pending, running or completing."""
        listed = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True)
        return listed.stdout.splitlines()

    def wait_until_empty(self, *, timeout_s):
        """Wait until the queue is empty; fail after ``timeout_s`` seconds."""
        start = time.monotonic()
        while queue := self.queue():
            assert time.monotonic() - start < timeout_s, queue
            time.sleep(0.2)


@pytest.fixture(scope="session", autouse=True)
def _workers_share_their_libraries():
    """Fork the workers of all tests from one process that has imported torch."""
    start_fork_server(with_torch=True)


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Return what starts commands, forked from one process that has imported overtile.

    Each is a process with its own session, as from a shell, but for the seconds of CPU that imports
    take. Tests of the imports themselves start Python.
    """
    with Commands(tmp_path_factory.mktemp("commands")) as started:
        yield started


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """Start a Slurm for the session and point its commands at it; skip where none is installed."""
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    if missing := [tool for tool in SLURM_TOOLS if shutil.which(tool, path=path) is None]:
        pytest.skip(f"Slurm not found ({', '.join(missing)}): apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        subprocess.run(
            ["bash", SLURM_SCRIPT, "start", folder, "--cpus", "4", "--killwait", "2"], check=True
        )
        one_node = OneNodeSlurm(folder)
        try:
            yield one_node
        finally:
            subprocess.run(["bash", SLURM_SCRIPT, "stop", folder], check=True)
            left = one_node.end_processes(within_s=60)
        assert not left, "processes of jobs outlive the jobs; they were killed"


def vary(model):
    """Scale a fresh network so that its logits have a standard deviation of 4 on noise.

    At 8, the rounding of float32 alone would change probabilities by more than 1e-5.
    """
    model.eval()
    config = model.config
    shape = config.input_shape((16,) * config.dims)
    with torch.no_grad():
        logits = model(torch.rand(1, config.in_channels, *shape))
        centre = logits.mean(dim=tuple(range(2, logits.ndim)))[0]
        *_, last_weight, last_bias = model.parameters()
        scale = 4 / (logits.std(dim=tuple(range(2, logits.ndim))).mean())
        last_weight *= scale
        last_bias -= centre
        last_bias *= scale


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Return a function from a network's name to a weights file whose scores vary.

    A freshly initialised U-Net is nearly flat and hides seams: its last layer is scaled up.
    """
    folder = tmp_path_factory.mktemp("weights")

    def make(name, **options):
        key = hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest()[:8]
        path = folder / f"{name}-{key}.safetensors"
        if not path.exists():
            torch.manual_seed(7)
            model = UNet(NETWORKS[name])
            vary(model)
            record = {"kind": "range", "low": 0, "high": 255}
            save_weights(model, path, **{"normalisation": record, **options})
        return str(path)

    return make


@pytest.fixture(scope="session")
def whole_scores():
    """Return a function: the scores of a whole volume in one pass, with nothing of the pipeline.

    raw: (c, z, y, x). The network sees it mirrored by numpy, through torch alone, in float64: the
    true scores, whichever library and layout a predictor uses.
    """

    @functools.lru_cache(maxsize=8)  # property tests compare many cuts of one volume
    def computed(weights_path, shape, dtype, content):
        raw_czyx = np.frombuffer(content, dtype).reshape(shape)
        model, info = load_weights(weights_path)
        model.eval()
        config = info.config
        x = raw_czyx.astype(np.float32) / 255
        stack = np.moveaxis(x, 1, 0) if config.dims == 2 else x[None]  # images: (n, c, …)
        spatial = stack.shape[2:]
        pads = [
            (halo, size - n - halo)
            for n, size, halo in zip(spatial, config.input_shape(spatial), config.halo, strict=True)
        ]
        padded = np.pad(stack, [(0, 0), (0, 0), *pads], mode="reflect")
        with torch.inference_mode():
            scores = torch.softmax(model.double()(torch.from_numpy(padded).double()), dim=1)
        scores = scores.float().numpy()[(slice(None), slice(None), *(slice(0, n) for n in spatial))]
        scores = np.moveaxis(scores, 0, 1) if config.dims == 2 else scores[0]
        assert scores.std() > 0.15, "scores that do not vary hide seams"
        return scores

    def run(weights_path, raw_czyx):
        return computed(weights_path, raw_czyx.shape, raw_czyx.dtype, raw_czyx.tobytes()).copy()

    return run


@pytest.fixture(scope="session")
def textured():
    """Return a function from a shape to a smooth, noisy uint8 array without two like places."""

    def make(shape, seed=0):
        random = np.random.default_rng(seed)
        array = random.normal(size=shape)
        for axis in range(array.ndim - 3, array.ndim):
            if shape[axis] > 4:
                array = array + np.roll(array, 1, axis) + np.roll(array, -1, axis)
        array = (array - array.min()) / np.ptp(array)
        return (array * 255).astype(np.uint8)

    return make


def trusting_all(keys=None):
    """Return the context of a TLS client that checks nobody, with the keys in a folder, if any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if keys is not None:
        context.load_cert_chain(keys / "cert.pem", keys / "key.pem")
    return context


@pytest.fixture(scope="session")
def strangers(tmp_path_factory):
    """Return TLS contexts of clients that a cluster must turn away; None: without TLS."""
    other = tmp_path_factory.mktemp("strangers") / "other"
    make_keys(other)
    return {"no TLS": None, "no certificate": trusting_all(), "another key": trusting_all(other)}


@pytest.fixture(scope="session")
def first_byte():
    """Return a function from a local port and a TLS context to what a Dask process says first.

    Nothing: the client was turned away. A process without TLS greets whoever connects.
    """

    def said(port, context):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as raw:
            try:
                if context is None:
                    raw.sendall(bytes(64))
                    return raw.recv(1)
                with context.wrap_socket(raw) as stream:
                    return stream.recv(1)
            except (ssl.SSLError, ConnectionError):
                return b""

    return said


@pytest.fixture(scope="session")
def one_worker():
    """Return a client of a cluster without TLS: other processes get its address alone."""
    with open_cluster("local", workers=1, dashboard=":0", tls="off") as client:
        yield client


@pytest.fixture(scope="session")
def three_workers():
    """Return a client of a cluster without TLS, as of one_worker."""
    with open_cluster("local", workers=3, dashboard=":0", tls="off") as client:
        yield client


@pytest.fixture(scope="session")
def placed_image():
    """Return a function that writes an OME-Zarr image of (z,) y, x whose levels state their place.

    It takes a path, the levels' arrays, the finest first, and the scale and translation of each.
    """

    def write(path, *levels, unit="micrometer"):
        group = zarr.create_group(path)
        datasets = []
        for number, (array, scale, translation) in enumerate(levels):
            group.create_array(f"s{number}", data=array, chunks=(4, 16, 16)[-array.ndim :])
            entries = [
                {"type": "scale", "scale": list(scale)},
                {"type": "translation", "translation": list(translation)},
            ]
            datasets.append({"path": f"s{number}", "coordinateTransformations": entries})
        axes = [
            {"name": a, "type": "space", **({"unit": unit} if unit else {})}
            for a in "zyx"[-array.ndim :]
        ]
        image = {"axes": axes, "datasets": datasets, "name": path.name}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
        return path

    return write
