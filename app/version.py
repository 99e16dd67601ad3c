"""The version: also in pyproject.toml and openapi/openapi.yaml, as tests check."""

__version__ = "0.1.0"
