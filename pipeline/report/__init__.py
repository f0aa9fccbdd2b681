"""Rendering of reports: tables and pictures as a page. Independent of a run."""
