"""IAM: callers, roles and their sessions, and the decision whether a call is allowed."""
