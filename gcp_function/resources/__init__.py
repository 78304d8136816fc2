"""One module for each thing the GCP function observes, and creates or repairs where it may."""
