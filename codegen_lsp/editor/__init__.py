"""All that knows the Language Server Protocol. Positions become code-point offsets at this door, and only here."""
