"""Questions to every process of a cluster before a run starts."""
