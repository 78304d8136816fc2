"""Terminal output of all commands: streams and colors, progress, plans and reports, and the end of a command."""
