"""From stored labels to what a network learns: a rule per file, and their registry."""
