"""The engine: generates replies, owns them by leases, and shows their text while it grows."""
