"""What Tailpipe does on each cloud, small: connect as its identity, and read manifests, data and metrics."""
