"""Messages to operators."""
