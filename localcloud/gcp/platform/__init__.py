"""What a deployment consists of: the function, its schedule and the resources around it."""
