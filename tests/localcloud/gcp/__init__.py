"""The local GCP, asked by Google's own clients."""
