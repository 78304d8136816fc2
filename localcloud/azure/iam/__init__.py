"""Entra ID and role-based access control: callers, managed identities, role assignments and their conditions."""
