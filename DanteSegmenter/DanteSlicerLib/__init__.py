"""All that knows Slicer: the scene, the window, what is installed, and a run without a window."""
