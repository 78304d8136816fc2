"""What every command shows on a terminal: streams and colors, progress, plans and reports, and how a command ends."""
