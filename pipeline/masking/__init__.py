"""A proposal of a tissue mask from a coarse image of a volume, for a person to look at."""
