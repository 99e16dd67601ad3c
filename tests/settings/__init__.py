"""Settings: their bounds and sources."""
