"""`tailpipe-exports local <cloud>`: the options of each local cloud, and its start."""
