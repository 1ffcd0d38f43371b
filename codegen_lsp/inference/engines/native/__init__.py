"""The native engine: a prefix-caching decoder over a memory-mapped int8 build."""
