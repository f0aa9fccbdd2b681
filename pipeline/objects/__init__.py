"""Objects across blocks, equal to those of the whole volume, ids included."""
