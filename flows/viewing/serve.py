"""Serves the layers of an output, and Neuroglancer's own page, on this machine alone."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from pipeline.base.errors import PlanError, VolumeError
from pipeline.viewing.decoded_chunks import DecodedChunks
from pipeline.viewing.layers import View
from pipeline.viewing.neuroglancer_state import PROPERTIES, names_document, neuroglancer_state
from pipeline.viewing.virtual_zarr import answer

_HOST: Final = "127.0.0.1"
_READERS: Final = 3
"""Threads that decode; each may hold one stored chunk in memory."""


@contextmanager
def served(view: View, *, port: int) -> Iterator[str]:
    """Serve a view while the context lasts; yield the link to open.

    port: 0 takes any free one. The link holds a random token: other users of the machine who do
    not know it read nothing. Raises PlanError where Neuroglancer is not installed, or the port is
    taken.
    """
    try:
        import neuroglancer
        import neuroglancer.server
    except ImportError as error:
        raise PlanError(
            "overtile view needs Neuroglancer's Python package: pip install 'overtile[view]', or "
            "open the output in another viewer (--print)"
        ) from error
    neuroglancer.set_server_bind_address(_HOST, bind_port=port)
    try:
        neuroglancer.server.start()
    except OSError as error:
        raise PlanError(
            f"--port {port}: {error.strerror or error}; choose another port, or leave it out"
        ) from error
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="view")
    try:
        server, token = neuroglancer.server.global_server, secrets.token_urlsafe(24)
        path = f"/layers/{token}"
        server.app.add_handlers(".*", [(rf"{path}/(\d+)/(.+)", _handler(view, readers))])
        viewer = neuroglancer.Viewer(allow_credentials=False)
        urls = [f"{server.server_url}{path}/{number}" for number in range(len(view.layers))]
        viewer.set_state(neuroglancer_state(view, urls))
        yield viewer.get_viewer_url()
    finally:
        readers.shutdown(wait=False, cancel_futures=True)
        neuroglancer.server.stop()


def _handler(view: View, readers: ThreadPoolExecutor) -> Any:
    from tornado.web import RequestHandler

    read_answer = partial(answer, read=DecodedChunks().read)

    class LayerHandler(RequestHandler):
        """Answers the requests for arrays and names, unless the page has dropped them."""

        answering: asyncio.Future[bytes | None] | None = None

        async def get(self, number: str, key: str) -> None:
            if int(number) >= len(view.layers):
                self.send_error(404)
                return
            layer = view.layers[int(number)]
            try:
                content: bytes | None
                if key == f"{PROPERTIES}/info":
                    content = json.dumps(names_document(layer)).encode()
                else:
                    loop = asyncio.get_running_loop()
                    self.answering = loop.run_in_executor(readers, read_answer, layer, key)
                    content = await self.answering
            except asyncio.CancelledError:  # the page has closed the connection
                return
            except VolumeError as error:
                self.set_status(500)
                self.finish(f"{error}\n")
                return
            if content is None:
                self.send_error(404)
                return
            self.set_header("Content-Type", "application/octet-stream")
            self.finish(content)

        def on_connection_close(self) -> None:
            if self.answering is not None:
                self.answering.cancel()
            super().on_connection_close()

    return LayerHandler
