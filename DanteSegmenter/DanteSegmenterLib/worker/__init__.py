"""Segmenting in a warm process of its own: protocol, client, server."""
