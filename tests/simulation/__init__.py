"""Long operation in virtual time."""
