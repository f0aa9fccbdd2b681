"""Prefect flows and the shell: the only place where everything meets. Nobody imports it."""
