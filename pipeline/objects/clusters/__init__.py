"""Agglomeration: which objects touch, and which are merged across weak boundaries."""
