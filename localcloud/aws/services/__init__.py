"""AWS services: modules hold the state of the services, and modules with the suffix _api implement the operations."""
