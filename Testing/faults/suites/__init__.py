"""Inputs that must be refused, one file a kind; each gives names and what to do."""
