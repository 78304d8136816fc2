"""End-to-end tests: the whole function in the vendor's own runtime, against a local cloud."""
