"""The commands of `plainmq`, run as a shell runs them."""
