"""The operator's view: status, history, and the status page, from what the function stored."""
