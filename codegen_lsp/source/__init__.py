"""Source text: languages, parse trees, brackets, blocks, indentation."""
