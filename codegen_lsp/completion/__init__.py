"""The request to the model and the shaping of its answer, as pure functions: no I/O, no model, no protocol."""
