"""One module per image format, behind the protocol of ``image.py``."""
