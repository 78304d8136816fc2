"""Cloud Run functions: the functions framework in a child process, and its metadata server."""
