"""The tree of merges: groups of blocks joined level by level; holes by the same tree."""
