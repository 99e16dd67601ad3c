"""The broker: publishes are batched, and each publisher gets its own result."""
