"""A preview: a few small boxes of a volume, segmented and drawn, before a run of all of it."""
