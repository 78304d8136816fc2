"""Tests of the local AWS."""
