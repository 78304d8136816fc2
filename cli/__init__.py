"""`tailpipe-exports`: the operator's command-line tool. Never part of a function's archive."""
