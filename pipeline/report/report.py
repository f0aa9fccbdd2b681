"""The report of a run: figures, warnings, pictures, and a check for seams.

A ``Report`` is a value; ``to_markdown`` (for Prefect's artifacts) and ``to_html`` (a
self-contained file) turn it into text. This module neither reads nor writes files.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..base.geometry import Shape
from ..base.text import (
    duration_text,
    markdown_table,
    markdown_text,
    rate_text,
    shape_text,
    size_text,
    voxel_rate_text,
)
from .seams import SeamStatistics

Row: TypeAlias = tuple[str, str]

REPORT_FILE: Final = "report.html"
"""Name of the page, in the run group of an output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Names and values under a title, in the order in which they are shown."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG file's bytes, its title and a caption."""

    title: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to another page. address: relative to the report's file."""

    text: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is shown, top to bottom. Texts are escaped when rendered."""

    title: str
    summary: str = ""
    warnings: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    links: tuple[Link, ...] = ()
    """In the HTML page only: addresses are relative to its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Figures of a run. Times of phases are summed over all threads of all workers.

    Voxels, bytes and times are those of the ``blocks_timed`` blocks: the ones that this run did, or
    those of earlier runs if it had none to do.
    """

    shape: Shape
    """Of the volume, without channels."""
    voxels: int
    """Written; fewer than the volume's if the run was resumed."""
    blocks: int
    """To compute, done or not."""
    blocks_done: int
    """By this run and earlier ones."""
    blocks_skipped: int = 0
    """Outside the part that is segmented, or with constant input."""
    blocks_done_before: int = 0
    blocks_timed: int = 0
    failed_blocks: tuple[str, ...] = ()
    seconds: float
    """From the first block's start to the last one's end."""
    read_s: float = 0.0
    wait_s: float = 0.0
    """Time that blocks waited for the device after they were read."""
    device_s: float = 0.0
    write_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    nan_voxels: int = 0

    @property
    def voxels_per_s(self) -> float:
        """Output voxels per second; 0 for a run that took no time."""
        return self.voxels / self.seconds if self.seconds > 0 else 0.0

    @property
    def blocks_per_s(self) -> float:
        """Blocks per second; 0 for a run that took no time."""
        return self.blocks_timed / self.seconds if self.seconds > 0 else 0.0

    def tables(self) -> tuple[Table, ...]:
        """Return the figures as two tables: the run, and the time per phase."""
        done = [
            ("volume", f"{shape_text(self.shape)} voxels"),
            ("voxels written", f"{self.voxels:,}"),
            ("blocks done", f"{self.blocks_done:,} of {self.blocks:,}"),
            ("of these by an earlier run", f"{self.blocks_done_before:,}"),
            *([("blocks skipped", f"{self.blocks_skipped:,}")] if self.blocks_skipped else []),
            ("blocks failed", ", ".join(self.failed_blocks) or "none"),
            ("time", duration_text(self.seconds)),
            (
                "speed",
                f"{voxel_rate_text(self.voxels_per_s)}, {rate_text(self.blocks_per_s)} blocks/s",
            ),
            ("read, written", f"{size_text(self.bytes_read)}, {size_text(self.bytes_written)}"),
            ("NaN voxels in the input", f"{self.nan_voxels:,}"),
        ]
        return (Table(title="Run", rows=tuple(done)), self._time_table())

    def _time_table(self) -> Table:
        phases = {
            "reading": self.read_s,
            "waiting for the device": self.wait_s,
            "on the device": self.device_s,
            "writing": self.write_s,
        }
        total = sum(phases.values())
        rows = [
            (name, f"{duration_text(s)} ({s / total if total else 0:.0%})")
            for name, s in phases.items()
        ]
        return Table(title="Where the time of the workers' threads went, summed", rows=tuple(rows))


def seam_table(seams: SeamStatistics) -> Table:
    """Return the seam statistics as a table."""
    if not seams.border_pairs:
        return Table(title="Seams", rows=(("borders between blocks", "none in the picture"),))
    rows = (
        ("change across borders of blocks", f"{seams.across_borders:.4f}"),
        ("change elsewhere", f"{seams.elsewhere:.4f}"),
        ("ratio (about 1 by nature; more where borders fall on objects)", f"{seams.ratio:.2f}"),
        (
            "lines elsewhere that change as much as the worst border (0 % where a seam shows)",
            f"{seams.lines_like_worst:.0%}",
        ),
    )
    return Table(title="Seams", rows=rows)


def table_of(title: str, values: Mapping[str, Any]) -> Table:
    """Return any record (of provenance, versions, a normalisation) as a table.

    >>> table_of("Weights", {"steps": 900, "seeds": [1, 2]}).rows
    (('steps', '900'), ('seeds', '[1, 2]'))
    """
    return Table(title=title, rows=tuple((str(k), _value_text(v)) for k, v in values.items()))


def to_markdown(report: Report, *, picture_link: Callable[[Picture], str] | None = None) -> str:
    """Return the report as GitHub's Markdown.

    picture_link: gives the address of a picture; without it, pictures are embedded as data.
    """
    link = picture_link or data_uri
    parts = [f"# {markdown_text(report.title)}", markdown_text(report.summary)]
    parts += [f"> **Warning:** {markdown_text(warning)}" for warning in report.warnings]
    for picture in report.pictures:
        address = quote(link(picture), safe="/:?&=#%;,+@~!$*")
        image = f"![{markdown_text(picture.title)}]({address})"
        parts += [f"## {markdown_text(picture.title)}", image, markdown_text(picture.caption)]
    for table in report.tables:
        parts += [f"## {markdown_text(table.title)}", markdown_table(table.rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_html(report: Report) -> str:
    """Return the report as one HTML page with its pictures embedded; it loads nothing else."""
    return _templates().get_template("report.html").render(report=report)


@functools.cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["data_uri"] = data_uri
    return found


def data_uri(picture: Picture) -> str:
    """Return the picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(picture.png).decode()


def _value_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)
