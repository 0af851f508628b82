"""Training half of SlicerDANTE: datasets, stages, loop, evaluation. Depends on DanteSegmenterLib, never on Slicer."""
