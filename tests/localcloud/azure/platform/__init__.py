"""Tests of the local Azure's deployment surroundings."""
