"""Processes that outlive a command: their records, and what a machine allows."""
