"""Clusters that cannot be opened, through the shell: exit 2, one line, in time, and no trace.

Those of a batch system are in test_slurm.py; workers that cannot import us, or have other versions,
in test_preflight.py; workers that do not see the files, in tests/flows/cli/test_preflight.py.
"""

from __future__ import annotations

import json
import re
import socket
import time

import pytest
import zarr

from deploy import ClusterSpec
from flows.cli.main import main

SLURM = 'kind = "slurm"\n'
IN_TIME_S = 10
"""Limit for giving up an address that does not answer."""
SPARE_S = 20
"""Additional time on a busy machine."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, textured):
    """Return a folder with a volume and the files of the cases below."""
    folder = tmp_path_factory.mktemp("bad")
    zarr.create_array(
        folder / "in.zarr", data=textured((16, 32, 32)), dimension_names=("z", "y", "x")
    )
    silent = socket.create_server(("127.0.0.1", 0))  # takes the connection, and says nothing
    with silent, socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        (folder / "dead.json").write_text(json.dumps({"address": address, "workers": {}}))
        (folder / "empty.json").write_text("{}")
        silent_address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        write(folder / "silent.toml", f'kind = "{silent_address}"\ntimeout_s = 2')
        write(folder / "gone.toml", f'kind = "{address}"\ntimeout_s = 1')
        write(folder / "short.toml", SLURM + 'walltime = "60 s"\ndrain_s = 40')
        write(folder / "minutes.toml", SLURM + 'walltime = "10 seconds"')
        write(folder / "bounds.toml", SLURM + "minimum_jobs = 3\nmaximum_jobs = 2")
        write(folder / "both.toml", SLURM + "jobs = 3\nmaximum_jobs = 2")
        write(folder / "typo.toml", SLURM + 'partitoin = "gpu"')
        write(folder / "type.toml", SLURM + 'gpus_per_job = "two"')
        write(folder / "memory.toml", SLURM + 'memory_per_job = "lots"')
        write(folder / "gres.toml", 'kind = "pbs"\ngres = "gpu:1"')
        write(folder / "gpu.toml", 'kind = "cuda"\ndevices = ["99"]')
        write(folder / "network.toml", SLURM + 'interface = "nope0"')
        write(folder / "broken.toml", "kind =")
        write(folder / "nothing.toml", "")
        write(folder / "tls.toml", 'kind = "local"\ntls = "nowhere"')
        yield folder


def write(path, text):
    path.write_text(text + "\n")


ROWS = {
    # problem: (--cluster, pattern of the error)
    "a name that nobody knows": ("nope", r"'nope': expected local.*a profile in"),
    "no port": ("tcp://127.0.0.1", r"expected host and port, like tcp://HOST:8786"),
    "no scheduler file": ("empty.json", r"is not a scheduler file: it has no address"),
    "a dead scheduler's file": ("dead.json", r"no Dask scheduler answered at tcp://127.*runs"),
    "an address that refuses": ("gone.toml", r"answered at tcp://127.* within 1 s.*check that"),
    "an address that is silent": ("silent.toml", r"answered at tcp://127.* within 2 s"),
    "a walltime shorter than its drain": (
        "short.toml", r"walltime 00:01:00 leaves no time for a block: .* longer walltime",
    ),
    "a walltime of seconds": ("minutes.toml", r"walltime_s 10: expected at least 60"),
    "bounds the wrong way": ("bounds.toml", r"minimum_jobs 3 is more than maximum_jobs 2: swap"),
    "two numbers of jobs": ("both.toml", r"jobs 3 and maximum_jobs 2: set jobs for a fixed"),
    "a setting that is none": ("typo.toml", r"partitoin: unknown .*did you mean partition\?"),
    "a setting of another type": ("type.toml", r"gpus_per_job \('two'\): expected an integer"),
    "memory in no unit": ("memory.toml", r"memory 'lots': expected 32GiB"),
    "another system's setting": ("gres.toml", r"cluster pbs: gres: unknown setting"),
    "a GPU that is not there": ("gpu.toml", r"cluster cuda needs|GPU '99' not found: the dri"),
    "a network that is not there": ("network.toml", r"cannot start a scheduler .*check inter"),
    "no certificates": ("tls.toml", r"tls 'nowhere': expected auto, off, a folder with ca\.pem"),
    "an encrypted address": ("tls://127.0.0.1:1", r"tls://127.* needs certificates: set tls to"),
    "no TOML": ("broken.toml", r"broken\.toml is not TOML"),
    "an empty file": ("nothing.toml", r"nothing\.toml: kind is not set: expected local, cuda"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_cluster_that_cannot_be_opened_is_one_line_exit_2_and_no_trace(
    row, place, capsys, monkeypatch
):
    where, says = ROWS[row]
    if where == "dead.json":  # a file has no place for a timeout
        monkeypatch.setitem(ClusterSpec.__init__.__kwdefaults__, "timeout_s", 1.0)
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.iterdir())
    start = time.monotonic()
    code = main(["segment", "in.zarr", "out.zarr", "--weights", "demo", "--cluster", where])
    took_s = time.monotonic() - start
    said = capsys.readouterr().err
    assert code == 2, said
    first = r"(input: .*; starting workers\n)?"  # stated before the cluster is opened
    assert re.fullmatch(rf"{first}overtile: .*(?:{says}).*\n", said), said
    assert took_s < IN_TIME_S + SPARE_S or "within" not in says
    assert sorted(path.name for path in place.iterdir()) == before


def test_the_default_limit_for_an_answer_is_short():
    assert ClusterSpec().timeout_s <= IN_TIME_S
