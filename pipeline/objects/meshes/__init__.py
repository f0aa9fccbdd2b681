"""Surfaces of finished objects as triangles, and files of them."""
