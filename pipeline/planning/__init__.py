"""Decisions in integers: blocks, tiles, shares, levels and their cost."""
