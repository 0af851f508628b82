"""Nodes of Slicer's scene: volumes read, results written, shown and followed."""
