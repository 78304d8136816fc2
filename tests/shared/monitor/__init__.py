"""Tests of what an operator reads after the deployment."""
