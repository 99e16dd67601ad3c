"""The README, docs/, the OpenAPI description and SECURITY.md agree with the code."""
