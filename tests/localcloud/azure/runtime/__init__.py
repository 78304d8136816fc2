"""Tests of the local Azure's function runtime."""
