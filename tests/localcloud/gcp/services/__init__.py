"""Tests of the local GCP's services."""
