"""Hostile and extreme load: floods, malformed input, stalled and reconnecting clients, full memory."""
