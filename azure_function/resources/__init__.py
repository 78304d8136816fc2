"""One module for each thing the Azure function observes, and creates or repairs where it may."""
