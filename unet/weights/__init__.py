"""Weights files: location, content, reading and writing."""
