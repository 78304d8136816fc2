"""One module for each resource that the GCP function observes, and creates or repairs where it may."""
