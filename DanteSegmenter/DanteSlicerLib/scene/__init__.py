"""Nodes of Slicer's scene: reading volumes, and writing, showing and updating results."""
