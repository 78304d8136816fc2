"""The operator port on Azure."""
