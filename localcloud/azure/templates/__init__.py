"""ARM templates: their language, what a template asks for, and deployments that carry it out."""
