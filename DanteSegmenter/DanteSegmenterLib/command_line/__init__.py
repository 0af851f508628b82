"""Implementation of the command line's verbs."""
