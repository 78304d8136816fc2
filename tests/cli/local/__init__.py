"""Local clouds as processes."""
