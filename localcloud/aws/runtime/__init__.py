"""Lambda: functions, their invocations and the execution environments that run them."""
