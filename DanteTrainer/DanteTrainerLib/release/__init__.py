"""Model cards and published model folders."""
