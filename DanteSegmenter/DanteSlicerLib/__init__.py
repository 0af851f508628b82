"""All code that depends on Slicer: the scene, the window, package installation, and runs without a window."""
