"""What makes a step independent of the number of ranks: sums over ranks, norms, parts."""
