"""Tests of the tools that set up, lock and check the project."""
