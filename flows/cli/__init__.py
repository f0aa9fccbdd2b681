"""The command ``overtile``: one module per command."""
