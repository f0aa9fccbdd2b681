"""The interface of a model, and adapters for it."""
