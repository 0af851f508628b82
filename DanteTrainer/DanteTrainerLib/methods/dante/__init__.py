"""DANTE (AAAI 2026): its two stages, masks and losses."""
