"""What a run depends on: clock and deadline, guarded calls, rate limits, threads and log."""
