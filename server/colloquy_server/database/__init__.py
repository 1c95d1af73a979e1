"""The only truth: the tables, the way to them, and all SQL."""
