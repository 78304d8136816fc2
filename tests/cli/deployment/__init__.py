"""The operator's commands on a deployment."""
