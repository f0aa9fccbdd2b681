"""Photographs a page in a headless Chromium, over its debugging protocol, after some seconds.

Chromium's own ``--screenshot`` waits for pages that keep a connection open, such as viewers.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

SWITCHES = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0",
)  # fmt: skip
"""WebGL is drawn by the processor; nothing is fetched but the page."""
LARGEST_MESSAGE = 2**28
PATIENCE_S = 180.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def photograph(
    url: str, path: Path, *, size: tuple[int, int], seconds: float, shows: str | None = None
) -> None:
    """Write a PNG of a page as it looks some seconds after it was opened. size: in pixels.

    shows: a text; the seconds begin once the page has it.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("no Chromium found: on Debian or Ubuntu, apt-get install chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        window = f"--window-size={size[0]},{size[1]}"
        process = subprocess.Popen(
            [browser, *SWITCHES, window, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            picture = asyncio.run(_picture(url, _address(process), seconds=seconds, shows=shows))
        finally:
            process.terminate()
            process.communicate()
    path.write_bytes(picture)


def _address(process: subprocess.Popen[str]) -> str:
    """Return where the browser takes commands; it prints this when it is ready."""
    assert process.stderr is not None
    for line in process.stderr:
        if "DevTools listening on" in line:
            return line.split()[-1]
    sys.exit("Chromium did not start")


async def _picture(url: str, address: str, *, seconds: float, shows: str | None) -> bytes:
    connection = await websocket_connect(address, max_message_size=LARGEST_MESSAGE)
    target = await _answer(connection, 1, "Target.createTarget", url=url)
    session = await _answer(
        connection, 2, "Target.attachToTarget", targetId=target["targetId"], flatten=True
    )
    number = 3
    until = time.monotonic() + PATIENCE_S
    expression = f"document.body.innerText.includes({json.dumps(shows or '')})"
    while True:
        found = await _answer(
            connection, number, "Runtime.evaluate", session=session["sessionId"],
            expression=expression,
        )  # fmt: skip
        if found["result"].get("value") is True:
            break
        if time.monotonic() > until:
            sys.exit(f"{url} does not show {shows!r} within {PATIENCE_S} s")
        number += 1
        await asyncio.sleep(0.5)
    await asyncio.sleep(seconds)
    captured = await _answer(
        connection, number + 1, "Page.captureScreenshot", session=session["sessionId"], format="png"
    )
    return base64.b64decode(captured["data"])


async def _answer(
    connection: WebSocketClientConnection,
    number: int,
    method: str,
    session: str = "",
    **values: Any,
) -> dict[str, Any]:
    """Send one command and return its answer; other messages are dropped."""
    command = {"id": number, "method": method, "params": values}
    await connection.write_message(
        json.dumps(command | ({"sessionId": session} if session else {}))
    )
    while True:
        message = json.loads(await connection.read_message() or "{}")
        if message.get("id") == number:
            answer: dict[str, Any] = message["result"]
            return answer
