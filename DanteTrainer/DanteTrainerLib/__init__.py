"""Training half of SlicerDANTE: datasets, stages, loop, evaluation. Builds on DanteSegmenterLib; knows nothing of Slicer."""
