"""Coverage-guided fuzzing of the parsers, the encoders and both ports. The ordinary tests replay what it found."""
