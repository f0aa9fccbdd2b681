"""The report of a run: the definition in words, figures of the table, a picture."""
