"""Networks that nnU-Net trained: its residual encoder, its checkpoints, and what it calls each weight."""
