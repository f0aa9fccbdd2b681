"""Clusters that outlive a run, found by name."""
