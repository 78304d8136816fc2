"""What Tailpipe does on each cloud, small: connect as its identity, read manifests, data and metrics, and nothing else."""
