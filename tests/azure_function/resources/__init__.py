"""Tests of the Azure function's resources, one module each."""
