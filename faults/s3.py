"""A server of the S3 protocol on loopback, and a proxy in front of it that fails for a while."""

from __future__ import annotations

import http.client
import random
import re
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

BUCKET: Final = "faults"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "a-user",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'
ANSWERS: Final = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "403": (403, "AccessDenied", "Access Denied"),
}
HOP_BY_HOP = frozenset(("connection", "transfer-encoding", "keep-alive", "content-length"))
LATE_S = 60.0
"""Longer than a run of the suite: its listings show nothing that it has written."""
SLOW_S = (2.0, 10.0)
HELD_S = 200.0
"""How long a request stays unanswered. Clients of overtile give up after 60 s."""
_ENTRY = re.compile(
    rb"<Contents>.*?<Key>(.*?)</Key>.*?</Contents>"
    rb"|<CommonPrefixes><Prefix>(.*?)</Prefix></CommonPrefixes>",
    re.DOTALL,
)


@dataclass(slots=True, kw_only=True)
class Trouble:
    """What the proxy does to some requests, once it is started.

    how: one of ANSWERS, ``drop`` (the connection ends in the middle of an answer, or before it),
    ``late`` (a listing is that of a minute ago), ``slow`` (an answer takes seconds) or ``hang``
    (there is no answer). after: how many requests are served first; the next one fails. share: of
    those that follow. stop: how many failures there are; then it is over. key: part of the path of
    the requests.
    """

    how: str
    generator: random.Random
    stop: int
    after: int = 0
    share: float = 1.0
    key: str = ""
    is_on: bool = True
    seen: int = 0
    """Requests with this key so far."""
    failures: int = 0
    """What really happened: of ``late``, listings that differ from the present ones."""
    seconds: float = 0.0
    """How long requests were held back."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hits(self, path: str) -> bool:
        """Return whether this request fails, and count it."""
        with self.lock:
            self.seen += self.key in path
            is_over = not self.is_on or self.failures >= self.stop
            if is_over or self.key not in path or self.seen <= self.after or self.how == "late":
                return False
            if self.failures and self.generator.random() >= self.share:
                return False
            self.failures += 1
            return True

    def held(self, seconds: float) -> None:
        """Count the time for which a request was held back."""
        with self.lock:
            self.seconds += seconds


class Puts:
    """What was written through the proxy, and when."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def note(self, path: str) -> None:
        """Note that an object was written."""
        self._at[_key(path)] = time.monotonic()

    def before(self, listing: bytes) -> bytes:
        """Return a listing without what was written in the last ``LATE_S``."""
        since = time.monotonic() - LATE_S

        def kept(match: re.Match[bytes]) -> bytes:
            key, prefix = (unquote((group or b"").decode()) for group in match.groups())
            times = [
                at for name, at in list(self._at.items())
                if name == key or (prefix and name.startswith(prefix))
            ]  # fmt: skip
            return b"" if times and min(times) > since else match[0]

        return _ENTRY.sub(kept, listing)


def _key(path: str) -> str:
    """Return the key of a request's path."""
    return unquote(urlsplit(path).path).removeprefix(f"/{BUCKET}/")


@contextmanager
def server() -> Iterator[str]:
    """Yield the address of a server with a bucket."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        _client(address).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        moto.stop()


@contextmanager
def proxy(upstream: str, trouble: Trouble) -> Iterator[str]:
    """Yield the address of a proxy in front of a server."""
    puts = Puts()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Write no log."""

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hits = trouble.hits(self.path)
            if hits and trouble.how in ANSWERS:
                self.refuse(*ANSWERS[trouble.how])
                return
            if hits and trouble.how in ("slow", "hang"):
                self.hold(trouble.generator.uniform(*SLOW_S) if trouble.how == "slow" else HELD_S)
                if trouble.how == "hang":
                    self.close_connection = True
                    return
            if hits and trouble.how == "drop" and self.command != "GET":
                if trouble.generator.random() < 0.5:
                    self.forwarded(body)  # it is done, and the client does not know
                self.close_connection = True
                return
            status, headers, content = self.forwarded(body)
            if trouble.how == "late" and "list-type" in self.path and status == 200:
                content = self.listing_of_before(content)
            self.answer(status, headers, content, is_cut=hits and trouble.how == "drop")

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = serve  # noqa: N815

        def forwarded(self, body: bytes) -> tuple[int, Sequence[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
            connection.close()
            if self.command in ("PUT", "POST") and response.status == 200:
                puts.note(self.path)
            return response.status, response.getheaders(), content

        def hold(self, seconds: float) -> None:
            """Wait this long, or until the client gives up."""
            began = time.monotonic()
            select.select([self.connection], [], [], seconds)
            trouble.held(time.monotonic() - began)

        def listing_of_before(self, content: bytes) -> bytes:
            before = puts.before(content) if trouble.is_on else content
            trouble.failures += before != content
            return before

        def answer(
            self, status: int, headers: Sequence[tuple[str, str]], content: bytes, *, is_cut: bool
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            stated = {name.lower(): value for name, value in headers}
            is_head = self.command == "HEAD"
            size = stated.get("content-length", "0") if is_head else str(len(content))
            self.send_header("Content-Length", size)
            self.end_headers()
            if is_cut:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif not is_head:
                self.wfile.write(content)

        def refuse(self, status: int, code: str, message: str) -> None:
            content = _ERROR.format(code, message).encode()
            self.answer(status, [("Content-Type", "application/xml")], content, is_cut=False)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Stay silent: clients that were killed leave connections behind."""

    listening = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def put_files(address: str, prefix: str, folder: Path) -> None:
    """Copy the files of a folder below a prefix."""
    client = _client(address)
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder)}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def bucket_content(address: str, prefix: str) -> dict[str, bytes]:
    """Return all objects below a prefix, by the rest of their names."""
    client = _client(address)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return {
        key.removeprefix(f"{prefix}/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        for key in keys
    }


def _client(address: str) -> Any:
    import boto3

    return boto3.client(
        "s3", endpoint_url=address, region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
