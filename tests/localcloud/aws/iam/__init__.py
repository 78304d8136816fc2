"""Tests of the local AWS's identity and access."""
