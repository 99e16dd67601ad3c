"""The log that a server writes."""
