"""The reconciliation engine. It is pure: it knows no cloud."""
