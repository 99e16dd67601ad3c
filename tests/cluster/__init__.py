"""Several nodes on one journal in a real Redis."""
