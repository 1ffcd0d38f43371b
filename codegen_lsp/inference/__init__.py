"""The model: token ids in, token ids out, in a process of its own. Knows no documents, languages or editors."""
