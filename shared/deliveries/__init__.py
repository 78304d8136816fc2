"""Deliveries announced to readers: documents of what changed, their chain per period, and what a run catches up on."""
