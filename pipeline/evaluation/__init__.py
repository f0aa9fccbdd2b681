"""How good a prediction is: classes and objects, block by block, exactly as for the whole."""
