"""The Functions host: the worker runtime in a child process, and the function app in front of it."""
