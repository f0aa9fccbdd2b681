"""What a run asks of every worker before it starts."""
