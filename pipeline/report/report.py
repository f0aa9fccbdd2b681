"""The report of a run: a verdict in words, pictures, charts, figures and warnings.

A ``Report`` is a value; ``to_markdown`` (for Prefect's artifacts) and ``to_html`` (a
self-contained file) turn it into text. This module neither reads nor writes files.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..base.text import (
    markdown_table,
    markdown_text,
)
from .charts import Chart
from .pictures import (
    Colour,
    Legend,
    enlarged,
    legend_strip,
    panel,
    png_bytes,
    with_scale_bar,
)
from .plane_pictures import Tile
from .score_section import ScoreSection

Row: TypeAlias = tuple[str, str]

REPORT_FILE: Final = "report.html"
"""Name of the page, in the run group of an output."""
_SCORES: Final = re.compile(r"<!-- scores -->.*?<!-- end of scores -->", re.DOTALL)
"""As templates/scores.html writes it. Texts of a page are escaped, so none of them looks so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Names and values under a title, in the order in which they are shown."""

    title: str
    rows: tuple[Row, ...]
    note: str = ""
    """What the figures mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG file's bytes, its title and a caption."""

    title: str
    png: bytes
    caption: str = ""
    chart: Chart | None = None
    """The same as a drawing, which a page shows in its place: it follows light and dark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to another page. address: relative to the report's file."""

    text: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result in a sentence or two, and whether a person must do something."""

    text: str
    state: Literal["good", "attention", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """What a colour in the pictures means. text: what is to be said of it, such as its share."""

    name: str
    colour: Colour | None
    """None for things that have a colour each."""
    text: str = ""
    is_class: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Pictures of one plane, all of one size. um_per_px: None without a voxel size."""

    title: str
    tiles: tuple[Tile, ...]
    caption: str
    um_per_px: float | None

    @property
    def width(self) -> float:
        """Width of its pictures in µm, or in pixels without a voxel size."""
        return self.tiles[0].picture.shape[1] * (self.um_per_px or 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the shell, and what it does."""

    text: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is shown, top to bottom. Texts are escaped when rendered."""

    title: str
    verdict: Verdict | None = None
    summary: str = ""
    key_figures: tuple[Row, ...] = ()
    warnings: tuple[str, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    """Of the planes."""
    planes: tuple[Plane, ...] = ()
    scores: tuple[ScoreSection, ...] = ()
    """Against a truth, one for each evaluation."""
    pictures: tuple[Picture, ...] = ()
    charts: tuple[Chart, ...] = ()
    """In the HTML page only."""
    tables: tuple[Table, ...] = ()
    commands: tuple[Command, ...] = ()
    folded: tuple[Table, ...] = ()
    """Figures for engineers: in the HTML page they are folded."""
    links: tuple[Link, ...] = ()
    """In the HTML page only: addresses are relative to its file."""


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
    parts = [f"# {markdown_text(report.title)}"]
    if report.verdict is not None:
        parts.append(f"**{markdown_text(report.verdict.text)}**")
    parts.append(markdown_text(report.summary))
    parts += [f"> **Warning:** {markdown_text(warning)}" for warning in report.warnings]
    parts += ["\n".join(section.markdown()) for section in report.scores]
    for picture in (*map(partial(_as_picture, report.legend), report.planes), *report.pictures):
        address = quote(link(picture), safe="/:?&=#%;,+@~!$*")
        image = f"![{markdown_text(picture.title)}]({address})"
        parts += [f"## {markdown_text(picture.title)}", image, markdown_text(picture.caption)]
    for table in (*report.tables, *report.folded):
        heading = f"## {markdown_text(table.title)}"
        parts += [heading, markdown_text(table.note), markdown_table(table.rows)]
    for command in report.commands:
        parts += [markdown_text(command.text), markdown_text(command.command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _as_picture(legend: Sequence[LegendEntry], plane: Plane) -> Picture:
    """Return the pictures of a plane side by side as one, with titles and legend."""
    sheet = panel([(tile.title, tile.picture) for tile in plane.tiles], um_per_px=plane.um_per_px)
    if legend:
        names = Legend(class_names=tuple(entry.name for entry in legend if entry.is_class))
        sheet = np.concatenate([sheet, legend_strip(names, width=sheet.shape[1])])
    return Picture(title=plane.title, png=png_bytes(sheet), caption=plane.caption)


def to_html(report: Report) -> str:
    """Return the report as one HTML page with its pictures embedded; it loads nothing else."""
    return _templates().get_template("report.html").render(report=report, sections=report.scores)


def with_scores(page: str, sections: Sequence[ScoreSection]) -> str | None:
    """Return a page of :func:`to_html` with other scores; None for one that has no place for them.

    Pages of versions before 0.2 have none.
    """
    shown = _templates().get_template("scores.html").render(sections=sections).strip()
    changed, count = _SCORES.subn(lambda _: shown, page, count=1)
    return changed if count else None


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
    found.filters["shown"] = _shown
    found.filters["width_percent"] = _width_percent
    found.filters["hex"] = lambda colour: "#" + "".join(f"{part:02x}" for part in colour)
    return found


def _width_percent(plane: Plane, planes: Sequence[Plane]) -> int:
    """Return how wide the pictures of a plane are shown, so that all have one scale if they can."""
    return max(35, round(100 * plane.width / max(one.width for one in planes)))


def _shown(tile: Tile, plane: Plane) -> Picture:
    """Return a picture of a plane for a page: large enough, with its scale bar."""
    picture, zoom = enlarged(tile.picture)
    if plane.um_per_px is not None:
        picture = with_scale_bar(picture, um_per_px=plane.um_per_px / zoom)
    return Picture(title=tile.alt, png=png_bytes(picture))


def data_uri(picture: Picture) -> str:
    """Return the picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(picture.png).decode()


def _value_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)
