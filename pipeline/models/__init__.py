"""What the pipeline asks of a model, and adapters that meet it."""
