"""The stored state: the document, a run's session with it, and the only code that changes its entries."""
