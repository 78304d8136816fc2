"""A stand-in for Terraform providers that cannot be had here: the real Terraform runs the real files against it.

It speaks Terraform's plugin protocol, version 5, and knows each resource by the provider's published schema. What a
plan or an apply with it proves: names, types and required arguments, validations and preconditions, references and
their order, for_each keys that are known in time, outputs, and that a second plan finds nothing to do. What it does not
prove: anything that the provider's own code or the cloud decides, such as names that are taken, defaults, rights, or
what forces a replacement. What the cloud would make up (ids, addresses) is made up in `values`.
"""
