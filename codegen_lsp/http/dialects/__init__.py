"""The dialects of the HTTP server, one module each: its paths, the fields of its requests, the form of its answers."""
