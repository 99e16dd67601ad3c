"""Coverage-guided fuzzing of the parsers, the encoders and both endpoints; findings are replayed."""
