"""Rendering only: tables and pictures as a page. Knows no run."""
