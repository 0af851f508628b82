"""Another computer that computes: its address, how ssh reaches it, what it says, and the models it keeps."""
