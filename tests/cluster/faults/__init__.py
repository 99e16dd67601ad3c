"""Three servers on a real Redis under load, and what can fail there."""
