"""The checks of `infra/`, and what holds between the modules and the functions."""
