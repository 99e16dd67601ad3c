"""How a server starts and stops."""
