"""Tests of the local AWS's deployment surroundings."""
