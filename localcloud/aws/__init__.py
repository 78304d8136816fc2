"""A local AWS: moto, a gateway that corrects its differences from AWS, and BCM Data Exports, which moto lacks."""
