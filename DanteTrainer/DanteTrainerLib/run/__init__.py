"""A training run from its first step to its model folder, in this process or in the background."""
