"""The GCP function against the local GCP."""
