"""The local GCP, tested through Google's clients."""
