"""Tests of the templates of the local Azure: their language, and deployments."""
