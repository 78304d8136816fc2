"""Tests of the rounds over tenants."""
