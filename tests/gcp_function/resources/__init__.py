"""Tests of the GCP function's resources, one module each."""
