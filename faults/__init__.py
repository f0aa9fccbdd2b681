"""Faults on real runs: kill-and-resume rounds, a soak, and what `tests/faults` is built on.

Run from a checkout, like the benchmarks. `make faults` runs everything.
"""
