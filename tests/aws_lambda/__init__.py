"""Tests of the AWS function against the local AWS, over HTTP with the real SDK."""
