"""The operator's commands on a deployment, the same for every cloud."""
