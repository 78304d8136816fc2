"""Tests of what the local clouds share."""
