"""Every option of a run, declared once."""
