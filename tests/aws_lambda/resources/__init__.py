"""Tests of the AWS function's resources, one module each."""
