"""Read checkpoints from GGUF files, the format of llama.cpp."""
