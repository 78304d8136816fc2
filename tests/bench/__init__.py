"""Benchmarks: `python -m tests.bench` prints one JSON line a measure, and nothing else on standard output."""
