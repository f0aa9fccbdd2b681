"""The table of objects: exact sums over blocks, columns with units, Parquet and CSV."""
