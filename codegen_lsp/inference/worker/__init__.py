"""The inference worker process."""
