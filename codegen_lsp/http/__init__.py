"""The HTTP server: completion for existing editor clients and for a team, in the dialects that they speak."""
