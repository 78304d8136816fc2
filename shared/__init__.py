"""The reconciliation engine: pure, and without knowledge of any cloud."""
