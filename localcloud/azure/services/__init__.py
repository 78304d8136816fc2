"""Azure services: one module holds a service's state, and the module with the suffix `_api` handles its operations."""
