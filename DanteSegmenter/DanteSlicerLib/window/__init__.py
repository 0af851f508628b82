"""The module's window in panels, along the sections of Resources/UI/DanteSegmenter.ui."""
