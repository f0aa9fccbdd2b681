"""Reading images: locate, open, normalise, and mirror past the edge."""
