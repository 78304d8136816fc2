"""Mutation tests: changes the code in one place at a time and expects a test to fail."""
