"""Control actions, grouped by topic."""
