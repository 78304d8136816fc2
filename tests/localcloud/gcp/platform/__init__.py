"""Tests of the local GCP's deployment surroundings."""
