"""Tests of the local GCP's control actions."""
