"""The operator's view: status, history, and the status page, from the function's stored documents."""
