"""Keys that are made for a cluster: private, and gone with the process that made them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from deploy.tls import keys
from deploy.tls.certificate import VALID
from deploy.tls.files import NAMES, find_files
from deploy.tls.keys import MARK, made_keys, new_keys
from pipeline.base.errors import ClusterError

HOLD = """
import sys
from pathlib import Path
from deploy.tls.keys import new_keys
with new_keys(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def expire(path):
    """Let a file or folder have been written before the certificates of its time expired."""
    long_ago = time.time() - VALID.total_seconds() - 60
    os.utime(path, (long_ago, long_ago))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def held(tmp_path):
    """Return a process that holds keys in the folder of the test, and their folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process, type(tmp_path)(process.stdout.readline().decode().strip())
        process.kill()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_keys_are_readable_by_their_owner_alone_and_gone_at_the_end(umask, tmp_path):
    before = os.umask(umask)
    try:
        with new_keys(tmp_path / "jobs") as folder:
            assert mode(folder) == 0o700
            files = {path.name: mode(path) for path in folder.iterdir()}
            assert files == dict.fromkeys((*NAMES, MARK), 0o600)
            assert made_keys(str(folder)) == folder
            assert find_files(str(folder)).key == str(folder / "key.pem")
    finally:
        os.umask(before)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_keys_are_gone_after_an_error_and_two_clusters_have_two_keys(tmp_path):
    texts = []

    def fail(folder):
        texts.append((folder / "key.pem").read_text())
        raise RuntimeError("ours")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="ours"), new_keys(tmp_path) as folder:
            fail(folder)
    assert len(set(texts)) == 2
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_killed_process_are_removed_by_the_next_and_keys_in_use_are_kept(held, tmp_path):
    process, folder = held
    with new_keys(tmp_path):
        assert (folder / "key.pem").is_file(), "they are in use"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    assert (folder / "key.pem").is_file()
    with new_keys(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]


def test_keys_of_another_machine_are_kept_until_they_expire(held, tmp_path, monkeypatch):
    process, folder = held
    process.kill()
    process.wait(timeout=10)
    monkeypatch.setattr(keys, "_boot_id", lambda: "another machine, or another start of it")
    with new_keys(tmp_path):
        assert folder.is_dir()
    expire(folder / MARK)
    with new_keys(tmp_path):
        assert not folder.exists()


def test_other_files_beside_keys_are_never_removed(tmp_path):
    for name in ("tls-notes", "tls-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "tls-1.log").write_text("a log\n")
    (tmp_path / "tls-mine" / "key.pem").write_text("given by a site\n")
    for path in tmp_path.iterdir():
        expire(path)
    with new_keys(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tls-1.log",
        "tls-mine",
        "tls-notes",
    ]


def test_a_folder_that_cannot_be_written_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    says = r"^cannot write the keys of this cluster to .*: free space there, or set log_directory"
    with pytest.raises(ClusterError, match=says) as caught, new_keys(tmp_path / "file"):
        pass
    assert "\n" not in str(caught.value)


def test_the_repr_of_a_key_pair_does_not_show_the_key():
    from deploy.tls.certificate import make_key_pair

    assert "PRIVATE" not in repr(make_key_pair())
