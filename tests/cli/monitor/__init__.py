"""Tests of the commands for the time between runs."""
