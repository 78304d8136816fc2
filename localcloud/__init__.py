"""The clouds on a laptop: loopback servers that answer the real SDKs. Never shipped in a function."""
