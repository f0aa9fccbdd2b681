"""Corrections of a segmentation: painted beside it, counted, and applied to a copy of it."""
