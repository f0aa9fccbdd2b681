"""The demo: a volume with known truth, segmented and scored."""
