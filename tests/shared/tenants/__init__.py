"""Tenants: the registry, the rows and the rounds."""
