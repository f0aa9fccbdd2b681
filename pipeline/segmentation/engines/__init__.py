"""What each engine submits for a region, and the outcomes of its blocks."""
