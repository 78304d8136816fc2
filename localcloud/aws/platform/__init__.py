"""The parts of a deployment besides the function's code: roles, schedules and event rules."""
