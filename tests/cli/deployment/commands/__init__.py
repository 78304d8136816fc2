"""The commands from beginning to end, the same for every cloud."""
