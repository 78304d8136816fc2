"""CloudFormation stacks: their templates, resource types, engine and API."""
