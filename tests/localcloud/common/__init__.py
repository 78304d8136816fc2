"""Tests of the parts that the local clouds share."""
