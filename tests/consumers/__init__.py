"""Pull and push consumers of a broker, on every engine."""
