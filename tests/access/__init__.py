"""Tokens, JSON Web Tokens, tickets and cookies: who may do what, and when access ends."""
