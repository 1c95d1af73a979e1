"""The edge: gRPC on one side, the rooms further in on the other."""
