"""The language server's side of inference: find or start a worker, and send it requests."""
