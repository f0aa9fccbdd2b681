"""Serves an output to viewers on this machine."""
