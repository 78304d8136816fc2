"""Azure on a laptop: Resource Manager with Cost Management exports over HTTP, and blobs in Azurite."""
