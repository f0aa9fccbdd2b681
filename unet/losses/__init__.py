"""Losses, one file each, and their registry."""
