"""Messages to operators about changes of state: their content, their formats, and their delivery."""
