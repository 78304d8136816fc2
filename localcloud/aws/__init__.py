"""A local AWS: moto behind a gateway that corrects differences from AWS, and BCM Data Exports, which moto lacks."""
