"""How to train, as checked values."""
