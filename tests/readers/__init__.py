"""Small versions of Tailpipe's readers: connect as its identity, and read manifests, data and metrics."""
