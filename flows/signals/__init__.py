"""Signals: SIGUSR1 drains a run, SIGTERM and SIGINT stop a command."""
