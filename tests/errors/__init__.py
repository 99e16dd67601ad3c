"""The wording of error sentences."""
