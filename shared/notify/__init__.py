"""Messages to operators about changes of state: what is said, how it is written, and how it is delivered."""
