"""The deployed resources: the function, its schedule and everything around it."""
