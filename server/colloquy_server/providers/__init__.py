"""AI models: the catalogue, the client that asks them, and the local model."""
