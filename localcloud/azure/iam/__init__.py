"""Entra ID and role-based access: callers, managed identities, role assignments and their conditions."""
