"""What the checks need beyond the usual linters."""
