"""Training samples: where they lie, how they are deformed, labelled and weighted."""
