"""Kinds of clusters: their specification, and how each is opened."""
