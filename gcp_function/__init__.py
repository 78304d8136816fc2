"""The GCP function: reports the manual steps of billing exports, repairs what they need, copies every partition."""
