"""A local AWS: moto behind a front that corrects what differs from AWS, and our own BCM Data Exports."""
