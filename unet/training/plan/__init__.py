"""What a training will learn from and what it costs, before it starts. Nothing is written."""
