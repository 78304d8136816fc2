"""The AWS function: keeps cost exports and their reading role alive for an account or a whole organization."""
