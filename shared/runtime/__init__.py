"""What a run needs to run at all: its clock and deadline, guarded calls, rate limits, threads and log."""
