"""What an operator wants to know after the deployment, from the state document and the stored reports alone."""
