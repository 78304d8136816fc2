"""Actions of the control API, by subject."""
