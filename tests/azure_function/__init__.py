"""Tests of the Azure function."""
