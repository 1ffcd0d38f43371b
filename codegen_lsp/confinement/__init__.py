"""Programs that nobody has read, run with their hands tied."""
