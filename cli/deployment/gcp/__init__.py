"""The operator port on Google Cloud."""
