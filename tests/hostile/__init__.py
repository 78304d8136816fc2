"""Hostile input: random and damaged documents for everything that reads one, by the hundred thousand."""
