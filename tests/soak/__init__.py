"""Soak: a thousand warm invocations of each function, in which nothing may grow."""
