"""The operator's commands on a real deployment: deploy, doctor, invoke, onboarding, destroy."""
