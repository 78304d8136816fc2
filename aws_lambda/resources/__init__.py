"""One module for each thing that the AWS function observes and, where it has permission, creates or repairs."""
