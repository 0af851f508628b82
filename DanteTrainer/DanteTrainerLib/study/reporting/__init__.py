"""Study reports: tables with intervals and tests, comparison with the paper's figures, and plots of sweeps."""
