"""JSON-RPC between the language server and the inference worker: messages, framing, connection."""
