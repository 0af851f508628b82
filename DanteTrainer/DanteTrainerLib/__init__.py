"""Training half of SlicerDANTE: datasets, stages, loop, evaluation. Builds on DanteSegmenterLib; never on Slicer."""
