"""Tenants: many payers, directories or organizations that one deployment serves, each with a run of its own."""
