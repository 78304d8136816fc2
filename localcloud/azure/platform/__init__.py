"""The parts of a deployment: resources, the function app's site and its publish endpoint."""
