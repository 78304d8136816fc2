"""`tailpipe-exports`: the operator's tool. Never shipped in a function."""
