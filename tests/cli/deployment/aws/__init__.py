"""The operator port on AWS."""
