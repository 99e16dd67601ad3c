"""The line port. Most of these tests run it in this process."""
