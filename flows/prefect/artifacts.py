"""Prefect artifacts of a run: the Dask dashboard, the report. progress.py has its progress."""

from __future__ import annotations

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from pipeline.report.report import Report, to_markdown


def link_dashboard(link: str) -> None:
    """Create a link artifact for the Dask dashboard."""
    create_link_artifact(
        link, link_text="Dask dashboard", key="dask-dashboard",
        description="What each worker does at this moment; the page ends with the run",
    )  # fmt: skip


def show_report(report: Report, *, key: str, description: str) -> None:
    """Create a markdown artifact of the report, with its pictures embedded."""
    create_markdown_artifact(to_markdown(report), key=key, description=description)
