"""Secrets planted at every entry point appear nowhere in what is written, printed or started."""

from __future__ import annotations

import base64
import logging
import pickle
import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import botocore.exceptions
import fsspec.config
import psutil
import pytest
import zarr
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import is_valid as is_valid_parameters

import pipeline
from deploy.clusters.profiles import spec_of_toml
from flows.announce_volumes import announce_volumes
from flows.evaluate_volume import evaluate_volume
from flows.segment_volume import segment_volume
from flows.train_unet import train_unet
from pipeline.base.errors import ClusterError, OvertileError, PlanError, VolumeError
from pipeline.base.location import Location
from pipeline.base.redaction import has_secret, redacted
from pipeline.base.store_errors import explained
from pipeline.base.stores import open_store
from pipeline.output.viewing import view_commands
from unet import UNetPredictor

MARK = "pLanted7"
"""In every secret of these tests; the rest names where it was planted."""
PASSWORD, SIGNATURE, ANSWER = (f"{MARK}{place}" for place in ("password", "signature", "answer"))
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}secret/key+of=aws",
    "AWS_SESSION_TOKEN": f"{MARK}session",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PREFECT_API_AUTH_STRING": f"me:{MARK}prefect",
}


class Server(BaseHTTPRequestHandler):
    """Serves ``/good/FILE`` to those who have the password, and chunks neither to them.

    ``/403/…`` and ``/500/…`` are refused as S3 refuses, with a secret in the answer; so are the
    chunks in ``/damaged/…``, whose metadata can be read.
    """

    folder: Path

    def do_GET(self):
        _, kind, *rest = unquote(urlsplit(self.path).path).split("/")
        path = self.folder.joinpath(*rest)
        if kind.isdecimal():
            return self._refuse(int(kind))
        if kind == "damaged" and "c" in rest:
            return self._refuse(400, code="ExpiredToken")
        expected = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        if kind == "good" and self.headers.get("Authorization") != f"Basic {expected}":
            return self._refuse(401)
        if not path.is_file():
            return self._refuse(404, code="NoSuchKey")
        content, code = path.read_bytes(), 200
        if asked := self.headers.get("Range"):
            first, last = asked.removeprefix("bytes=").split("-")
            content = content[int(first) : int(last) + 1] if first else content[-int(last) :]
            code = 206
        return self._send(code, content)

    do_HEAD = do_PUT = do_GET  # noqa: N815

    def _refuse(self, status, code="AccessDenied"):
        self._send(
            status, f"<Error><Code>{code}</Code><Message>{ANSWER}</Message></Error>".encode()
        )

    def _send(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(tmp_path, textured, monkeypatch):
    """Serve an image, plant secrets in the environment, and return the server's address."""
    served = tmp_path / "served"
    zarr.create_array(served / "in.zarr", data=textured((4, 32, 32)), chunks=(4, 16, 16))
    handler = type("Handler", (Server,), {"folder": served})
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "PREFECT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def forms():
    """Return what no text may hold: the mark, and the password as a header of a request has it."""
    return (MARK, base64.b64encode(f"me:{PASSWORD}".encode()).decode()[:9])


def check_clean(text):
    for form in forms():
        found = text.find(form)
        assert found < 0, text[max(0, found - 200) : found + 80]


def check_tree(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert MARK not in str(path)
        content = path.read_bytes()
        assert not [form for form in forms() if form.encode() in content], path
    return len(files)


def test_a_run_on_a_volume_behind_a_password_writes_prints_and_starts_nothing_with_a_secret(
    host, tmp_path, weights, shell
):
    source = f"http://me:{PASSWORD}@{host}/good/in.zarr"
    command = [
        "segment", source, str(tmp_path / "out.zarr"), "--weights", weights("3d"), "--workers", "1",
        "--mask", source,
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.cli", *command], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as run:  # fmt: skip
        started = set()
        while run.poll() is None:
            for child in psutil.Process(run.pid).children(recursive=True):
                try:
                    started.add(" ".join(child.cmdline()))
                except psutil.Error:
                    continue
            time.sleep(0.2)
        printed = run.stdout.read()
    assert run.returncode == 0, printed
    assert started
    check_clean(printed + "".join(started))
    assert f"http://***@{host}/good/in.zarr" in printed
    report = (tmp_path / "out.zarr/run/report.html").read_text()
    assert f"http://CREDENTIALS@{host}/good/in.zarr" in report
    for words in (
        ("status", str(tmp_path / "out.zarr")),
        ("plan", source, str(tmp_path / "other.zarr"), "--weights", "demo", "--json"),
        ("segment", source, str(tmp_path / "out.zarr"), "--weights", "demo"),  # another job
    ):
        check_clean("".join(map(str, shell(*words))))
    assert check_tree(tmp_path) > 10


def test_no_command_that_fails_prints_or_writes_a_secret(host, tmp_path, shell, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}/403")
    (tmp_path / "slurm.toml").write_text('kind = "slurm"\n')
    local, out, w = str(tmp_path / "served/in.zarr"), "out.zarr", ("--weights", "demo")
    denied, broken = (f"http://me:{PASSWORD}@{host}/{status}" for status in (403, 500))
    signed = f"http://{host}/403/w.safetensors?X-Amz-Signature={SIGNATURE}"
    words_of = [
        *(("plan", f"{place}/in.zarr", out, *w) for place in (denied, broken, "s3://bucket")),
        ("plan", f"http://me:{PASSWORD}@{host}/good/gone.zarr", out, *w),
        ("plan", f"s3://key:{PASSWORD}@bucket/in.zarr", out, *w),
        ("plan", f"s3://key:{PASSWORD}/more@bucket/in.zarr", out, *w),
        ("plan", f"https://{host}/in.zarr?sig={SIGNATURE}", out, *w),
        ("plan", f"zip://a::{denied}/in.zip", out, *w),
        ("plan", f"http://CREDENTIALS@{host}/good/in.zarr", out, *w),
        ("plan", local, out, "--weights", signed),
        ("plan", local, out, *w, "--mask", f"{denied}/mask.zarr"),
        ("plan", local, out, *w, "--level", f"{denied}/mask.zarr", "--channel", denied),
        ("plan", local, out, *w, "--block", denied),
        ("plan", local, out, *w, f"--blokc={denied}"),
        ("plan", local, out, denied, *w),
        ("plan", local, f"{denied}/out.zarr", *w),
        ("segment", local, "s3://bucket/out.zarr", *w),
        ("segment", f"{denied}/in.zarr", out, *w),
        ("preview", f"{broken}/in.zarr", *w, "--out", "p.png"),
        ("mask", f"{denied}/in.tif", "mask.zarr"),
        ("convert", f"{broken}/in.tif", out),
        ("convert", f"{denied}/s*.tif", out),
        ("objects", f"{denied}/scores.zarr", out),
        ("evaluate", f"{denied}/a.zarr", f"{broken}/b.zarr"),
        ("status", f"{denied}/out.zarr"),
        ("status", "s3://bucket/out.zarr"),
        ("view", f"{denied}/out.zarr"),
        ("weights", f"{broken}/w.safetensors"),
        ("weights", signed),
        ("outlines", f"{denied}/cells.zarr", "cells.geojson"),
        ("meshes", f"{denied}/cells.zarr", "meshes"),
        ("train", "--volume", f"{denied}/a.zarr", "--labels", local, "--out", "w.safetensors"),
        ("submit", "segment", f"http://me:{PASSWORD}@{host}/good/in.zarr", out, *w,
         "--cluster", "slurm.toml", "--dry-run"),
        ("finish", f"http://me:{PASSWORD}@{host}/good/in.zarr", out, *w),
        ("preflight", f"{denied}/in.zarr", out, *w),
    ]  # fmt: skip
    for words in words_of:
        try:
            code, *printed = shell(*words)
        except Exception:
            code, printed = 1, [traceback.format_exc()]
        assert code, words
        assert all("Traceback" not in text for text in printed), printed
        check_clean("".join(printed))
    assert check_tree(tmp_path) < 10, "nothing was written but the served image and the profile"


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_blocks_whose_chunks_cannot_be_read_name_the_reason_and_no_secret(
    scheme, host, tmp_path, weights, one_worker, monkeypatch
):
    """The error occurs on a worker, is pickled, and stands in the ledger's report."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
    source = {"http": f"http://me:{PASSWORD}@{host}/damaged/in.zarr", "s3": "s3://damaged/in.zarr"}
    predictor = UNetPredictor(weights("3d"), precision="fp32", device="cpu")
    client = one_worker if scheme == "http" else None  # whose environment knows no server of S3
    with pytest.raises(Exception, match=r"400|ExpiredToken") as caught:
        pipeline.segment_volume(
            source[scheme], tmp_path / "out.zarr", predictor, client=client, retries=0
        )
    check_clean("".join(traceback.format_exception(caught.value)))
    check_tree(tmp_path)


def test_a_store_shows_no_password_and_its_errors_keep_their_kind_without_the_answer(host):
    where = Location.parse(f"http://me:{PASSWORD}@{host}/good/in.zarr")
    check_clean(repr(open_store(where)) + repr(pickle.loads(pickle.dumps(where))))
    answer = {"Error": {"Code": "AccessDenied", "Message": ANSWER}}
    error = PermissionError(ANSWER)
    error.__cause__ = botocore.exceptions.ClientError(answer, "GetObject")
    denied = r"access is denied .*AccessDenied"
    with pytest.raises(VolumeError, match=denied) as caught, explained(VolumeError, where):
        raise error
    assert caught.value.__cause__ is error
    check_clean("".join(traceback.format_exception(caught.value)))
    check_clean(str(pickle.loads(pickle.dumps(error.__cause__))))


def test_secrets_of_the_environment_are_hidden_however_they_are_quoted(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token-of-this-pod")
    check_clean(redacted(f"{MARK}secret/key+of=aws, {MARK}secret%2Fkey%2Bof%3Daws, {MARK}session"))
    headers = {"client_kwargs": {"headers": {"Authorization": f"Bearer {MARK}head"}}}
    monkeypatch.setitem(fsspec.config.conf, "https", headers)
    check_clean(redacted(f"{MARK}head, {headers}"))
    plain = "see /var/run/token-of-this-pod in us-east-1"
    assert redacted(plain) == plain


@pytest.mark.parametrize(
    ("word", "is_secret"),
    [
        (f"https://me:{PASSWORD}@host/in.zarr", True),
        (f"https://{PASSWORD}@host/in.zarr", True),
        (f"--mask=sftp://me:{PASSWORD}@host/in.zarr", True),
        (f"https://host/w.safetensors?X-Amz-Signature={SIGNATURE}", True),
        ("sftp://me@host/in.zarr", False),
        ("s3://bucket/img_??.tif", False),
        ("http://host:8080/me@home/in.zarr", False),
        ("/data/a:b@c/in.zarr?x=y", False),
    ],
)
def test_a_job_script_and_a_flow_run_take_every_uri_but_those_with_a_secret(word, is_secret):
    assert has_secret(word) == is_secret
    given = {"input": word.removeprefix("--mask="), "output": "out.zarr", "weights": "demo"}
    for flow, parameters in (
        (segment_volume, given),
        (segment_volume, given | {"input": "in.zarr", "options": {"mask": word}}),
        (evaluate_volume, {"prediction": word, "truth": "truth.zarr"}),
        (train_unet, {"volumes": [{"volume": word, "labels": "l.zarr"}], "out": "w.safetensors"}),
        (announce_volumes, {"folder": word}),
    ):
        for store in (flow.serialize_parameters, flow.validate_parameters):
            try:
                store(parameters)
                is_refused = False
            except PlanError as error:
                is_refused = True
                check_clean(str(error))
            assert is_refused == is_secret, (flow.name, store)
    if not is_secret or "me:" in word or "?" in word:  # a token alone may be the name of a user
        schema = parameter_schema(segment_volume).model_dump_for_openapi()
        assert is_valid_parameters(given, schema) == (not is_secret)


@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        (f"export AWS_SECRET_ACCESS_KEY={MARK}", True),
        (f'export MY_TOKEN="{MARK}"; date', True),
        (f"export https_proxy=http://me:{PASSWORD}@proxy:3128", True),
        ("export https_proxy=http://me:$PROXY_PASSWORD@proxy:3128", False),
        ("export AWS_SECRET_ACCESS_KEY=$(cat ~/.secret)", False),
        ('export HF_TOKEN="$TOKEN"', False),
        ("export TOKENIZERS_PARALLELISM=false", False),
        ("export AWS_SHARED_CREDENTIALS_FILE=/home/me/.aws/credentials", False),
        ("source ~/.secrets", False),
        (f"export S3_SECRET_KEY={MARK} MINIO1_PASSWORD=", True),
        (f"export TOKEN2=$'{MARK}'", True),
        (f"export A_TOKEN='${MARK}'", True),
        (f"export AWS_SECRET_ACCESS_KEY='/{MARK}'", True),
        (f"PASSPHRASE={MARK} gpg -d x", True),
        ("export GPG_PASSPHRASE_FILE=/run/secrets/passphrase", False),
        ("export A_TOKEN=`cat /run/token`", False),
        (f"curl -sS -u me:{PASSWORD} https://host/x", True),
        ("curl -u me:$PASSWORD https://host/x", False),
        (f"curl --header 'Authorization: Bearer {MARK}' https://host/x", True),
        ('curl --header "Authorization: Bearer $TOKEN" https://host/x', False),
        ("date -u +%H:%M", False),
    ],
)
def test_a_profile_may_name_a_secret_and_not_hold_it(line, is_refused):
    quoted = line.replace('"', '\\"')
    text = f'kind = "slurm"\nprologue = ["module list", "{quoted}"]\n'
    if not is_refused:
        spec = spec_of_toml(text, source="p.toml")
        assert spec.job.prologue[1] == line
        return
    with pytest.raises(ClusterError, match="prologue, line 2, holds") as caught:
        spec_of_toml(text, source="p.toml")
    check_clean(str(caught.value))


def test_a_printed_command_marks_what_the_user_must_fill_in():
    place = Location.parse(f"https://me:{PASSWORD}@host/out.zarr")
    for one in view_commands(place):
        assert "https://CREDENTIALS@host/out.zarr" in one.command
        assert redacted(one.command) == one.command
    with pytest.raises(OvertileError, match="CREDENTIALS stands for what was hidden"):
        Location.parse("https://CREDENTIALS@host/out.zarr")


def test_a_log_line_of_a_foreign_error_shows_no_secret(caplog, host):
    where = Location.parse(f"http://me:{PASSWORD}@{host}/403/in.zarr")
    store = open_store(where)
    from zarr.core.buffer import default_buffer_prototype

    from pipeline.base.stores import wait_for

    try:
        wait_for(store.get("c/0/0", default_buffer_prototype()), timeout_s=30)
    except Exception:
        logging.getLogger("laws").exception("a task failed")
    check_clean(caplog.text)
