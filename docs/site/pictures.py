"""The pictures of the documentation, from a run of the demo: make pictures

    python docs/site/pictures.py [FOLDER]          (FOLDER: of `overtile demo`, made if missing)

Pages are photographed in a headless Chromium (Debian: apt-get install chromium).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parents[1] / "pictures"
WIDTH = 1200
COLOURS = 64
"""Of a PNG. With these, a picture takes some 100 KB."""
CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=10000",
)  # fmt: skip


def kept(source: Path, name: str) -> None:
    """Write a small copy of a picture into the documentation: JPEG for photos, PNG for pages."""
    picture = Image.open(source).convert("RGB")
    picture.thumbnail((WIDTH, 4 * WIDTH))
    if name.endswith(".png"):
        picture = picture.quantize(COLOURS)
    picture.save(PICTURES / name, optimize=True, quality=80)


def photographed(url: str, name: str, *, size: tuple[int, int]) -> None:
    """Write a picture of a page into the documentation. size: of the window, in pixels."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium found: on Debian or Ubuntu, apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "page.png")
        window = f"--window-size={size[0]},{size[1]}"
        subprocess.run(
            [browser, *CHROMIUM, f"--user-data-dir={folder}/profile", window,
             f"--screenshot={shot}", url],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        kept(shot, name)


def main() -> None:
    folder = Path(*sys.argv[1:2] or ["overtile-demo"]).resolve()
    subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--directory", str(folder)], check=True
    )
    PICTURES.mkdir(exist_ok=True)
    kept(folder / "cells.png", "cells.jpg")
    report = folder / "segmented.zarr" / "run" / "report.html"
    photographed(report.as_uri(), "report.png", size=(1200, 1400))


if __name__ == "__main__":
    main()
