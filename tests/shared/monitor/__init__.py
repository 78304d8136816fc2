"""Tests of what an operator reads between runs."""
