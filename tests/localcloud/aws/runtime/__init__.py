"""Tests of the local AWS's function runtime."""
