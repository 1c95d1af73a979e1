"""Files: their types, where their bytes are, and extracting what is in them."""
