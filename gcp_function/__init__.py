"""The GCP function: makes the billing export's manual step visible, heals what surrounds it, copies every partition."""
