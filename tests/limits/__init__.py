"""Quotas, memory budgets, buffered bytes, eviction and drain."""
