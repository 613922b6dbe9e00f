"""Limits of the HTTP servers: connections, slow clients, request bodies. Manager and agent share them; they know no route."""
