"""Prefect for several users of a machine, several machines of a home, and a home that is broken."""

import base64
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import prefect
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deploy.processes.background import Background
from deploy.processes.identity import identify
from flows.prefect import background as parts
from flows.prefect import down, start
from flows.prefect.access import Access, access_file, read_access, write_access
from flows.prefect.background import PrefectProcess
from flows.prefect.server import TakenError, find_server
from pipeline.base.errors import ClusterError

OTHER_USER = 61_234
SINCE = "2026-11-29T01:00:00"
IS_ROOT = os.getuid() == 0
root_only = pytest.mark.skipif(not IS_ROOT, reason="needs root: for users, hosts and mounts")


def can_unshare(*kinds):
    """Return whether a process may leave this machine's hosts, processes or mounts."""
    command = ["unshare", *kinds, "true"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Return an empty folder of state for this process, whose user has set no server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    access_file().parent.mkdir(parents=True, mode=0o700)
    with temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING}):
        yield access_file().parent


def content_of(path):
    """Return the bytes of a file; none if it has been removed meanwhile."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


# A password, which other users do not see.


def test_the_password_is_in_one_file_that_only_its_user_can_read(shared_front):
    password = shared_front.auth.partition(":")[2]
    assert len(password) >= 32
    kept = shared_front.home / ".local/state/overtile/prefect/access.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    processes = [*shared_front.processes("server"), *shared_front.processes("worker")]
    assert len(processes) >= 2
    assert not [one for one in processes if password in " ".join(one.cmdline())]
    assert password not in shared_front.told
    files = [path for path in shared_front.home.rglob("*") if path.is_file() and path != kept]
    assert "server.log" in {path.name for path in files}
    assert not [path for path in files if password.encode() in content_of(path)]


def answer_of(url, auth):
    """Return the status with which a server answers, asked without any proxy."""
    request = urllib.request.Request(url)
    if auth is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(request, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_server_answers_only_with_the_password(shared_front):
    url = f"{shared_front.api}/admin/version"
    asked = {auth: answer_of(url, auth) for auth in (None, "overtile:guess", shared_front.auth)}
    assert list(asked.values()) == [401, 401, 200]


def test_up_of_another_user_refuses_the_server_in_one_line(shared_front, tmp_path, new_front):
    other = new_front(tmp_path, PREFECT_API_URL=shared_front.api)
    code, printed = other.overtile("prefect", "up")
    assert (code, printed.count("\n")) == (2, 1)
    assert "does not accept your password" in printed
    assert "set another port" in printed
    assert not (tmp_path / ".local/state/overtile/prefect/worker.json").exists()


def test_env_prints_what_a_terminal_needs(shared_front, tmp_path):
    code, printed = shared_front.overtile("prefect", "env", cwd=tmp_path)
    assert code == 0
    shown = subprocess.run(
        ["sh", "-c", f"{printed}printenv PREFECT_API_URL PREFECT_API_AUTH_STRING"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.splitlines() == [shared_front.api, shared_front.auth]


def test_prefect_works_behind_a_proxy_that_does_not_know_this_machine(shared_front):
    proxy = shared_front.environment["http_proxy"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    with pytest.raises(urllib.error.URLError, match="refused"):
        opener.open(f"{shared_front.api}/health")
    assert "server: started in the background" in shared_front.told


def test_a_password_that_others_can_read_is_not_used(state):
    write_access(Access.new("http://127.0.0.1:4200/api"))
    access_file().chmod(0o644)
    with pytest.raises(ClusterError, match="other users can read it"):
        read_access()


# A server that answers on loopback may be another user's.

SERVER = """
import encodings.idna, http.server, os, sys  # read before another user runs it
user, version, log = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "w", buffering=1)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers["Authorization"], file=log)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'"%s"' % version.encode())
    def log_message(self, *words):
        pass
if user != os.getuid():
    os.setuid(user)
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def serving(user, log):
    """Run a server of a user that answers as Prefect does; yield its URL."""
    command = [sys.executable, "-P", "-c", SERVER, str(user), prefect.__version__, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/api"
        process.kill()


@pytest.mark.parametrize(
    "user", [os.getuid(), pytest.param(OTHER_USER, marks=root_only)], ids=["own", "another user"]
)
def test_the_password_is_sent_to_programs_of_its_user_only(state, tmp_path, user):
    with serving(user, tmp_path / "log") as url:
        write_access(Access.new(url))
        if user == os.getuid():
            assert find_server(url) == prefect.__version__
        else:
            with pytest.raises(TakenError, match=f"by a program of user {user}, not by yours: set"):
                find_server(url)
    asked = (tmp_path / "log").read_text()
    assert ("Basic" in asked) == (user == os.getuid())
    assert asked or user != os.getuid(), "the other was asked nothing"


class NotPrefect(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *words):
        pass


def test_a_port_that_is_taken_is_replaced_by_a_free_one_and_a_free_one_is_kept(state, monkeypatch):
    said = []
    with HTTPServer(("127.0.0.1", 0), NotPrefect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        taken = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setattr(start, "DEFAULT_URL", taken)
        write_access(Access.new(taken))
        chosen = start.choose_url(said.append)
        server.shutdown()
    assert chosen != taken
    assert said == [f"port {server.server_port}: in use by another program or user"]
    write_access(Access.new(chosen))
    assert start.choose_url(said.append) == chosen


# A home that several machines share.


@pytest.fixture
def elsewhere(tmp_path):
    """Return a front whose worker runs: a process, its record and its lock."""
    folder = tmp_path / ".local/state/overtile/prefect"
    background = Background(folder=folder, name="worker")
    with background.start(["sleep", "600"]) as process:
        record = PrefectProcess(
            **asdict(identify(process.pid)), part="worker", since=SINCE,
            url="http://127.0.0.1:9/api", folder="/",
        )  # fmt: skip
        background.write(asdict(record))
        background.log.write_text("live")
        yield background
        assert process.poll() is None, "it was killed"
        process.kill()


def on_another_machine(script, home, *kinds):
    """Run a script as on another machine of the same home; return (exit code, what it printed)."""
    if not can_unshare(*kinds):
        pytest.skip(f"unshare {' '.join(kinds)} is not possible here")
    done = subprocess.run(
        ["unshare", *kinds, "sh", "-c", script, "sh", sys.executable, "-P", "-m", "flows.cli"],
        env={**os.environ, "HOME": str(home), "XDG_STATE_HOME": ""}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@root_only
@pytest.mark.parametrize("command", ["up", "status", "down", "env"])
def test_on_another_machine_of_the_home_the_host_is_named_and_nothing_happens(
    elsewhere, tmp_path, command
):
    script = f'hostname login2 && exec "$@" prefect {command}'
    code, printed = on_another_machine(script, tmp_path, "--uts")
    assert (code, printed.count("\n")) == (2, 1)
    assert f"runs on {os.uname().nodename} since {SINCE}: run this command there" in printed
    assert elsewhere.log.read_text() == "live"


@root_only
def test_down_never_kills_the_process_of_the_same_number_on_another_machine(elsewhere, tmp_path):
    pid = elsewhere.read()["pid"]
    script = (
        f"echo {pid - 1} > /proc/sys/kernel/ns_last_pid; setsid sleep 600 & mine=$!\n"
        f'[ $mine = {pid} ] || exit 77\n"$@" prefect down; code=$?\n'
        "kill -0 $mine && kill $mine && exit $code"
    )
    code, printed = on_another_machine(script, tmp_path, "--pid", "--fork", "--mount-proc")
    if code == 77:
        pytest.skip("the number of a process cannot be chosen here")
    assert (code, printed.count("\n")) == (2, 1), printed
    assert f"runs on {os.uname().nodename} since {SINCE}" in printed


# A folder of state that cannot be used.

BROKEN = {
    "full": (
        'mount -t tmpfs -o size=64k none "$S" && { yes > "$S/fill" || true; }', "No space left",
    ),
    "read-only": ('mount -t tmpfs -o ro none "$S"', "Read-only file system"),
    "another user's": (
        f'chown {OTHER_USER} "$S/overtile/prefect"', f"belongs to user {OTHER_USER}",
    ),
    "a file": ('rm -r "$S" && touch "$S"', "Not a directory"),
    "a lost disk": ('rm -r "$S" && ln -s /nothing/here "$S"', "File exists|No such file"),
    "no home": ("unset XDG_STATE_HOME; export HOME=/nothing/here", "/nothing/here does not exist"),
}  # fmt: skip


@root_only
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_state_folder_is_reported_in_one_line_and_nothing_is_started(
    state, tmp_path, kind
):
    breaks, why = BROKEN[kind]
    if not can_unshare("--mount"):
        pytest.skip("unshare --mount is not possible here")
    script = f'S=$XDG_STATE_HOME; {{ {breaks}; }} 2>/dev/null && exec "$@" prefect up'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-P", "-m", "flows.cli"],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert re.search(f"^overtile: cannot keep state in .*({why})", done.stderr)
    assert not list(tmp_path.rglob("*.json"))


def test_a_process_whose_record_cannot_be_written_is_ended(state, monkeypatch):
    started = []
    monkeypatch.setattr(parts, "prefect_command", lambda words: ["sleep", *words])
    monkeypatch.setattr(parts, "identify", lambda pid: started.append(pid) or identify(pid))
    (state / "worker.part").mkdir()  # no file can be written there, not even by root
    with pytest.raises(ClusterError, match="cannot keep state in"):
        parts.start_part("worker", ["600"], url="http://127.0.0.1:9/api", environment=os.environ)
    (pid,) = started
    assert identify(pid) is None


LIMITED = """
import encodings.idna, os, resource, sys
import flows.cli.main, flows.prefect.up  # read as root: another user may not be able to
os.setuid(int(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
sys.exit(flows.cli.main.main(["prefect", "up"]))
"""


@root_only
@pytest.mark.slow
def test_a_limit_of_processes_is_reported_in_one_line(free_port):
    with TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        home = Path(folder)
        (home / "prefect").mkdir()
        for path in (home, home / "prefect"):
            shutil.chown(path, OTHER_USER)
        done = subprocess.run(
            [sys.executable, "-P", "-c", LIMITED, str(OTHER_USER)], cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": folder, "PREFECT_HOME": f"{home}/prefect",
                 "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        last = done.stderr.splitlines()[-1]
        assert re.match("overtile: cannot start the server .*ulimit -u is 1", last)
        assert "Traceback" not in done.stderr
        assert not (home / ".local/state/overtile/prefect/server.json").exists()


@pytest.mark.slow
def test_a_database_of_a_newer_version_is_reported_in_one_line(tmp_path, new_front):
    front = new_front(tmp_path)
    (tmp_path / ".prefect").mkdir()
    with sqlite3.connect(tmp_path / ".prefect/prefect.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('of-tomorrow')")
    code, printed = front.overtile("prefect", "up")
    assert code == 2
    assert printed.splitlines()[-1].startswith(
        f"overtile: the server did not start: its database {tmp_path}/.prefect/prefect.db was "
        f"written by a newer version of Prefect than {prefect.__version__}: install that version"
    )
    record = json.loads((tmp_path / ".local/state/overtile/prefect/server.json").read_text())
    assert identify(record["pid"]) is None


@pytest.mark.parametrize("cancel", [False, True])
def test_down_asks_for_active_runs_also_where_no_worker_of_up_is_left(cancel, monkeypatch):
    """Runs go on where their worker was killed, and so do those of a worker of the user's own."""
    server = SimpleNamespace(part="server", url="http://127.0.0.1:4200/api", since="now")
    run = SimpleNamespace(name="segment out.zarr", id="1")
    asked = []
    monkeypatch.setattr(down, "find_part", {"server": server, "worker": None}.get)
    monkeypatch.setattr(down, "find_server", lambda url: prefect.__version__)
    monkeypatch.setattr(down, "exclusive", nullcontext)
    monkeypatch.setattr(
        down, "process_of", lambda part: SimpleNamespace(part=part, stop=lambda: True)
    )
    client = SimpleNamespace(set_flow_run_state=lambda number, state: asked.append(number))
    monkeypatch.setattr(down, "open_client", lambda url: nullcontext(client))
    monkeypatch.setattr(down, "active_runs", lambda client: [] if asked else [run])
    said = []
    if cancel:
        down.take_down(said.append, cancel=True)
        assert asked == ["1"]
        assert said[-1] == "server: stopped (started now)"
    else:
        with pytest.raises(ClusterError, match=r"^active flow runs: segment out.zarr \(1\); wait"):
            down.take_down(said.append, cancel=False)
        assert said == []
