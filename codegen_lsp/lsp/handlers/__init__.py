"""Request and notification handlers, one module per family of messages."""
