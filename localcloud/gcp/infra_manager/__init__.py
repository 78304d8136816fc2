"""Infrastructure Manager of the local Google Cloud, which runs this machine's Terraform."""
