"""Tests of the local Azure's control actions."""
