"""Real sockets: nobody without a cluster's key reaches its scheduler, nannies or workers."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from urllib.parse import urlsplit

import cloudpickle
import psutil
import pytest
import zarr

from deploy import open_cluster, run_ranks
from deploy.tls.keys import make_keys
from flows.cli.main import main
from pipeline.base.errors import ClusterError

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
PATIENCE_S = 20.0


def listeners():
    """Return (process, host, port) of every TCP socket that this process's family listens on."""
    own = psutil.Process()
    return {
        (process.pid, connection.laddr.ip, connection.laddr.port)
        for process in (own, *own.children(recursive=True))
        for connection in connections_of(process)
        if connection.status == psutil.CONN_LISTEN
    }


def connections_of(process):
    with suppress(psutil.Error):
        return process.net_connections("tcp")
    return []


def http_ports(client):
    """Return the ports of the pages of scheduler and workers, which accept no commands."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    pages = {urlsplit(client.dashboard_link).port}
    return pages | {worker["services"]["dashboard"] for worker in workers}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "own"
    make_keys(folder)
    return str(folder)


@pytest.fixture(scope="module")
def opened():
    """Return a client of a local cluster as a run opens it, and the sockets that are new."""
    before = listeners()
    with open_cluster("local", workers=1) as client:
        yield client, listeners() - before


@pytest.mark.parametrize("who", ["no TLS", "no certificate", "another key"])
def test_a_stranger_is_turned_away_by_every_process_of_a_local_cluster(
    who, opened, strangers, first_byte
):
    client, sockets = opened
    ours = client.security.get_connection_args("client")["ssl_context"]
    ports = {port for _, _, port in sockets} - http_ports(client)
    assert len(ports) == 3, "scheduler, nanny, worker"
    for port in ports:
        assert first_byte(port, strangers[who]) == b""
        assert first_byte(port, ours) != b"", "the socket of something else"
    assert client.submit(lambda: 7, pure=False).result(timeout=30) == 7


def test_every_socket_of_a_local_cluster_is_on_loopback_and_its_key_is_in_no_file(opened):
    client, sockets = opened
    assert len(sockets) >= 5, "and the pages of scheduler and worker"
    assert {host for _, host, _ in sockets} == {"127.0.0.1"}
    assert client.scheduler.address.startswith("tls://127.0.0.1:")
    assert "PRIVATE KEY" in client.security.tls_client_key
    assert "PRIVATE KEY" not in repr(client.security)


@pytest.fixture(scope="module")
def encrypted(keys):
    """Return a client of two workers with certificates in files, as of a site."""
    with open_cluster("local", workers=2, dashboard="127.0.0.1:0", tls=keys) as client:
        yield client


def test_ranks_of_a_training_meet_on_an_encrypted_cluster(encrypted):
    def add_up(rank):
        import torch

        total = torch.tensor(rank.rank + 1)
        torch.distributed.all_reduce(total)
        return int(total)

    assert run_ranks(add_up, client=encrypted, ranks=2) == [3, 3]


def test_a_run_on_an_encrypted_cluster_gives_the_same_bytes(
    encrypted, keys, one_worker, textured, weights, tmp_path, capsys
):
    zarr.create_array(
        tmp_path / "in.zarr", data=textured((16, 32, 32)), dimension_names=("z", "y", "x")
    )
    for name, where in (
        ("plain", [one_worker.scheduler.address]),
        ("tls", [encrypted.scheduler.address, "--tls", keys]),
    ):
        code = main(
            ["segment", str(tmp_path / "in.zarr"), str(tmp_path / f"{name}.zarr"), "--weights",
             weights("3d"), "--block", "8,16,16", "--cluster", *where]
        )  # fmt: skip
        assert code == 0, capsys.readouterr().err
    plain, tls = (bytes_of(tmp_path / f"{name}.zarr") for name in ("plain", "tls"))
    assert plain == tls
    assert len(plain) > 4


def bytes_of(output):
    """Return the voxels of an output, by file."""
    return {
        path.relative_to(output): path.read_bytes()
        for path in (output / "labels").rglob("c/**/*")
        if path.is_file()
    }


@pytest.mark.parametrize("who", ["no certificates", "another key", "no TLS"])
def test_a_client_without_the_key_is_refused_in_one_line(who, encrypted, tmp_path):
    make_keys(tmp_path / "other")
    address = encrypted.scheduler.address
    where, tls, says = {
        "no certificates": (address, None, "needs certificates: set tls to the folder"),
        "another key": (address, str(tmp_path / "other"), "the certificates are those of this"),
        "no TLS": (address.replace("tls", "tcp"), None, "no Dask scheduler answered at tcp://"),
    }[who]
    start = time.monotonic()
    with (
        pytest.raises(ClusterError, match=says) as caught,
        open_cluster(where, tls=tls, timeout_s=1.0),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < PATIENCE_S


def test_a_cluster_of_overtile_that_is_not_encrypted_was_asked_for():
    with open_cluster("local", workers=1, dashboard="127.0.0.1:0", tls="off") as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
