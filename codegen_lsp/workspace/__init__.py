"""Files of a workspace: which may be read, and their texts."""
