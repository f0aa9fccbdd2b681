"""Checks of every process of a cluster before a run starts."""
