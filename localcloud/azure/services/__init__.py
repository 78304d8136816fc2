"""Azure services: each module holds a service's state; the module with the suffix _api answers its operations."""
