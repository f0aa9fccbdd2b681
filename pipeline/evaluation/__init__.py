"""Scores of a prediction: classes and objects, counted per block, exact for the whole volume."""
