"""What tests of the command line share: accounts to act on, fakes, processes, and a double of Terraform."""
