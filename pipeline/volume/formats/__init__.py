"""One module per image format, behind the protocol of ``image.py``; ``known.py`` lists them."""
