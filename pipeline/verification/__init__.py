"""Checks the files of an output against the digests of its ledger, and marks what to redo."""
