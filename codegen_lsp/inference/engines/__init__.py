"""Engines: token ids in, token ids out. `base` is their contract, `factory` chooses one."""
