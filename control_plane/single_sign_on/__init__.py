"""Logging in at an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636)."""
