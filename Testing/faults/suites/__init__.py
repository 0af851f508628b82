"""Inputs that must be refused, one file per kind; each yields names and actions."""
