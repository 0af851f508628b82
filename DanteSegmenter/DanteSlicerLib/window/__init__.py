"""The module's window: choices, guesses, the current run, and the panels."""
