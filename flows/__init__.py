"""Prefect flows and the shell, which use all other packages. No package imports it."""
