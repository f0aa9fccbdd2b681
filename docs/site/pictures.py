"""The pictures of the documentation, from a run of the demo: make pictures

    python docs/site/pictures.py [FOLDER]          (FOLDER: of `overtile demo`, made if missing)

Pages are photographed in a headless Chromium (Debian: apt-get install chromium).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import photograph
from PIL import Image
from running_pages import dashboard_of, prefect_pages

PICTURES = Path(__file__).parents[1] / "pictures"
WIDTH = 1000
COLOURS = 64
"""Of a PNG. With these, a picture takes some 100 KB."""
DEMO = Path(tempfile.gettempdir(), "overtile-demo")
"""The default FOLDER: pictures of pages show it."""
SMALL_BLOCK = (4, 64, 64)
"""Voxels: a run of the demo's volume then lasts long enough to be photographed."""
SMALLEST_BLOCK = (2, 64, 64)
"""Of the run in Prefect, whose page needs some seconds more to show the timeline."""


def kept(source: Path, name: str) -> None:
    """Write a small copy of a picture into the documentation: JPEG for photos, PNG for pages."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((WIDTH, 4 * WIDTH))
    if name.endswith(".png"):
        picture = picture.quantize(COLOURS)
    picture.save(PICTURES / name, optimize=True, quality=80)


def photographed(
    url: str, name: str, *, size: tuple[int, int], seconds: float = 3, shows: str | None = None
) -> None:
    """Write a picture of a page into the documentation.

    size: of the window, in pixels. shows: a text of the page, from which the seconds are counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "page.png")
        photograph(url, shot, size=size, seconds=seconds, shows=shows)
        kept(shot, name)


@contextmanager
def viewer(output: Path) -> Iterator[str]:
    """Yield the address of `overtile view`."""
    command = [sys.executable, "-m", "flows.cli", "view", str(output)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield next(url for line in process.stdout for url in re.findall(r"http://\S+", line))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


@contextmanager
def site() -> Iterator[str]:
    """Build the documentation as a site; yield the address of its start."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder]
        environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        subprocess.run(command, cwd=PICTURES.parents[1], env=environment, check=True)
        yield Path(folder, "index.html").as_uri()


def main() -> None:
    folder = Path(*sys.argv[1:2] or [DEMO]).resolve()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--directory", str(folder)], check=True
    )
    PICTURES.mkdir(exist_ok=True)
    kept(folder / "cells.png", "cells.jpg")
    report = folder / "segmented.zarr" / "run" / "report.html"
    photographed(report.as_uri(), "report.jpg", size=(1100, 1250))
    with viewer(folder / "segmented.zarr") as url:
        photographed(url, "viewer.jpg", size=(1200, 800), seconds=30)
    with prefect_pages(folder) as prefect:
        shows, wide = "segment-local", (1200, 700)
        photographed(prefect.deployments, "prefect-deployments.jpg", size=wide, shows=shows)
        photographed(prefect.form, "prefect-form.jpg", size=(1200, 1000), shows="Parameters")
        run = prefect.start(
            input=str(folder / "raw.zarr"), output=str(folder / "of-prefect.zarr"), weights="demo",
            options={"block": SMALLEST_BLOCK, "overwrite": True},
        )  # fmt: skip
        page = prefect.page(run)
        photographed(page, "prefect-running.jpg", size=(1200, 900), seconds=15, shows="Running")
        prefect.wait(run)
        photographed(page, "prefect-run.jpg", size=(1200, 900), seconds=15, shows="Completed")
    words = ("segment", *map(str, (folder / "raw.zarr", folder / "of-dask.zarr")))
    block = ",".join(map(str, SMALL_BLOCK))
    with dashboard_of(*words, "--weights", "demo", "--block", block, "--overwrite") as link:
        photographed(link, "dask-dashboard.jpg", size=(1200, 800), seconds=15)
    with site() as start:
        photographed(start, "docs-site.jpg", size=(1440, 1000))


if __name__ == "__main__":
    main()
