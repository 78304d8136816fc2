"""IAM: policies, conditions and workload identity federation."""
