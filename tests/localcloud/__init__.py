"""Tests of the local clouds."""
