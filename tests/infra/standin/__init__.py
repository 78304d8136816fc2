"""A stand-in for Terraform providers: the real Terraform runs the real modules against it, without a cloud.

It implements version 5 of Terraform's plugin protocol with the provider's published schema. A plan or apply with it
verifies names, types and required arguments, validations and preconditions, references and their order, for_each keys
that are known in time, outputs, and an empty second plan. It does not verify what the provider's code or the cloud
decides, such as names that are taken, defaults, permissions, or changes that force a replacement. `values` generates
ids and addresses that the cloud would assign.
"""
