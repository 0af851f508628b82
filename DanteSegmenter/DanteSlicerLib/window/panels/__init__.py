"""A panel per section of Resources/UI/DanteSegmenter.ui: it shows the window's choices and takes the user's."""
