"""Method-specific settings: one file and one dataclass per method."""
