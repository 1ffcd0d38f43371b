"""Export of models to the formats of other engines: transformers' Phi and Llama, and llama.cpp's GGUF."""
