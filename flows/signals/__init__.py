"""Signals: a drain, and a stop."""
