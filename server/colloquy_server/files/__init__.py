"""Files: their types, where their bytes are, and reading what is in them."""
