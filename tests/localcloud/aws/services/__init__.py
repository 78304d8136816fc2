"""Tests of the local AWS's services."""
