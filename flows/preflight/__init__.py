"""Checks of every worker before a run starts."""
