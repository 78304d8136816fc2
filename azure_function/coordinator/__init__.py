"""Rounds over all tenants, on Durable Functions."""
