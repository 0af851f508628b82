"""The module's window: what is chosen, what is guessed, the run that goes on, and who is told of what."""
