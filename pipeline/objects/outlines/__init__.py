"""Outlines of finished objects as polygons along pixel edges, and GeoJSON of them."""
