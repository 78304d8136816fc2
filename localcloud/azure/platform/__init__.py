"""What a deployment consists of: resources, the function app's site and its publish endpoint."""
