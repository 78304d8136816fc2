"""A local GCP: Cloud Billing, Resource Manager, Service Usage, Cloud Storage and BigQuery, for Google's own clients."""
