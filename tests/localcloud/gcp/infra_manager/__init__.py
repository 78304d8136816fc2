"""Tests of the local GCP's identity and access."""
