"""One module for each thing that the Azure function observes and, where it has permission, creates or repairs."""
