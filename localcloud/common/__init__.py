"""The parts that the three local clouds share: HTTP server, call log, faults, control API, child processes."""
