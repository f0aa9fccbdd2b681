"""Zarr arrays and OME-Zarr images: found, described and read."""
