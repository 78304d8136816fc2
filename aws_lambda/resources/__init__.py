"""One module for each thing the AWS function observes, and creates or repairs where it may."""
