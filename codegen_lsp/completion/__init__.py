"""What to ask the model and what to show of its answer. Pure functions over values: no I/O, no model, no protocol."""
