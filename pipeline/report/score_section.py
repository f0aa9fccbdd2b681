"""Scores against a truth: a part of a report that is added when the result has been evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from textwrap import indent
from typing import Any, ClassVar

from ..base.text import aligned_figures, markdown_table, markdown_text


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureTable:
    """Rows of texts under a title; the first column names, the others are figures."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """What the figures mean, for a report."""
    is_detail: bool = False
    """Whether a report folds it."""

    def lines(self) -> Iterator[str]:
        """Yield aligned lines."""
        yield self.title
        yield indent(aligned_figures((self.header, *self.rows)), "  ")

    def markdown(self) -> Iterator[str]:
        """Yield the lines of a markdown table."""
        yield f"**{markdown_text(self.title)}**\n"
        yield markdown_table(self.rows, header=self.header, figures=True) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSection:
    """One evaluation, as a report shows it."""

    title: ClassVar[str] = "Score against the truth"
    summary: str
    """What was compared with what."""
    notes: tuple[str, ...]
    tables: tuple[FigureTable, ...]
    """The most important first."""

    def to_json(self) -> dict[str, Any]:
        """Return the section as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ScoreSection:
        """Return the section of :meth:`to_json`. Raises KeyError or TypeError for other values."""
        return cls(
            summary=str(stored["summary"]),
            notes=tuple(map(str, stored["notes"])),
            tables=tuple(_table(one) for one in stored["tables"]),
        )

    def markdown(self) -> Iterator[str]:
        """Yield the lines of the section, without its details."""
        yield f"## {self.title}\n"
        yield f"{markdown_text(self.summary)}\n"
        for note in self.notes:
            yield f"> **Note:** {markdown_text(note)}\n"
        for table in self.tables:
            if not table.is_detail:
                yield from table.markdown()


def _table(stored: Mapping[str, Any]) -> FigureTable:
    return FigureTable(
        title=str(stored["title"]),
        header=tuple(map(str, stored["header"])),
        rows=tuple(tuple(map(str, row)) for row in stored["rows"]),
        note=str(stored["note"]),
        is_detail=bool(stored["is_detail"]),
    )
