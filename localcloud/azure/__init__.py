"""A local Azure: Resource Manager with Cost Management exports over HTTP, and blobs in Azurite."""
