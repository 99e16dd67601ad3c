"""TLS, certificates, reverse proxies, and peers that vanish."""
