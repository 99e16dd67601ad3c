"""HTTP and the line port of one server together."""
