"""`bench http`: the HTTP server under the load of several clients, and beside llama.cpp's server."""
