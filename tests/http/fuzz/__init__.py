"""A fuzzer of the HTTP server: malformed requests over real sockets to the real process and its worker."""
