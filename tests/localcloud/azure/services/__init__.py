"""Tests of the local Azure's services."""
