"""One panel per section of Resources/UI/DanteSegmenter.ui: each shows the current choices and handles the user's."""
