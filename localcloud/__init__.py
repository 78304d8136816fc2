"""Local stand-ins for the three clouds: loopback servers that answer the real SDKs. Never shipped in a function."""


class Unavailable(RuntimeError):
    """A program or package that a local cloud runs on is not here; the message says which, and how to install it."""
