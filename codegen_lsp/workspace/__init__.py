"""Files of a workspace: which may be read, and what is read of them."""
