"""The local clouds against what the vendors themselves wrote: SDKs, models, paginators, waiters."""
