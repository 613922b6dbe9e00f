"""The platform's own certificate authority (RFC 5280), and TLS between its parts."""
