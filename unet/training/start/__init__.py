"""A training that starts from weights: what it takes over, what it keeps unchanged."""
