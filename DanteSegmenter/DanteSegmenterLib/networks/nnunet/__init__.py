"""nnU-Net's networks: residual encoder, checkpoints, and mapping of weight names."""
