"""Tests of the tools for set-up, locks and project checks."""
