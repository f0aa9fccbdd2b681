"""Decisions in integers: blocks, tiles, levels, and what they cost."""
