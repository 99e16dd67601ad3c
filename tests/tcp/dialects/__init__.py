"""The dialects of the line port, byte for byte, on a server process."""
