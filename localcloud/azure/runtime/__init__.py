"""The Functions host: the function app, and the worker runtime in a child process."""
