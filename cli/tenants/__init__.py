"""The tenants of a deployment: the commands that edit the registry, and the registry as other commands read it."""
