"""Tests of the local GCP's function runtime."""
