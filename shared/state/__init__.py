"""The stored state: its document, one run's session with it, and the only code that changes it."""
