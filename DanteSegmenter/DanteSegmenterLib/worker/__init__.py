"""Segment in a separate process that keeps models loaded: protocol, client, server."""
