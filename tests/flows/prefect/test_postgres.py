"""Prefect's server on PostgreSQL, as a team runs it: a real database, server, worker and run."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zarr

pytestmark = pytest.mark.slow


def postgres_commands():
    """Return the folder of PostgreSQL's own commands, which Debian does not put on the path."""
    found = shutil.which("initdb")
    kept = (
        [Path(found).resolve()]
        if found
        else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    )
    return kept[-1].parent if kept else None


@pytest.fixture(scope="module")
def postgres(free_port):
    """Start a PostgreSQL with an empty database; return its URL and a function that queries it."""
    commands = postgres_commands()
    if commands is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    port = str(free_port())
    with TemporaryDirectory() as folder:
        whom = []
        if os.getuid() == 0:  # it refuses to run as root
            shutil.chown(folder, "postgres")
            whom = ["runuser", "-u", "postgres", "--"]

        def run(command, *arguments):
            done = subprocess.run(
                [*whom, commands / command, *arguments], cwd=folder, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        run("initdb", "-D", f"{folder}/data", "-U", "prefect", "-A", "trust")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        run("pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options, "-w", "start")
        there = ("-h", "127.0.0.1", "-p", port, "-U", "prefect")
        try:
            run("createdb", *there, "prefect")
            url = f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
            yield url, lambda sql: run("psql", *there, "-At", "-c", sql, "prefect")
        finally:
            run("pg_ctl", "-D", f"{folder}/data", "-m", "fast", "-w", "stop")


@pytest.fixture
def front(postgres, new_front, tmp_path):
    """Bring Prefect up on this database, with a password."""
    front = new_front(
        tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=postgres[0],
        PREFECT_SERVER_API_AUTH_STRING="team:secret", PREFECT_API_AUTH_STRING="team:secret",
    )  # fmt: skip
    code, told = front.overtile("prefect", "up")
    try:
        assert code == 0, told
        yield front
    finally:
        assert front.overtile("prefect", "down", "--cancel")[0] == 0


def test_a_run_completes_and_its_records_are_in_postgresql(front, postgres, textured, tmp_path):
    _, query = postgres
    raw = textured((8, 64, 64))
    zarr.create_array(tmp_path / "in.zarr", data=raw, dimension_names=["z", "y", "x"])
    flow_run = front.run(
        "segment-volume", input=str(tmp_path / "in.zarr"), output=str(tmp_path / "out.zarr"),
        weights="demo", cluster={"workers": 1},
    )  # fmt: skip
    assert front.ended(flow_run).is_completed()
    assert query(f"select state_name from flow_run where id = '{flow_run}'") == "Completed"
    assert int(query("select count(*) from deployment")) == 7
    assert not (front.home / ".prefect/prefect.db").exists()
