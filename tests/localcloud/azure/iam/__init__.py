"""Tests of the local Azure's identity and access."""
