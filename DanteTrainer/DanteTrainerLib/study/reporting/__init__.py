"""What a study found: tables with intervals and tests, the paper's figures beside ours, pictures of sweeps."""
