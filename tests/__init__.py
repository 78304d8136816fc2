"""The tests; never shipped in a function."""
