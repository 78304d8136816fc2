"""The Azure function: keeps the cost exports of every subscription of a tenant alive."""
