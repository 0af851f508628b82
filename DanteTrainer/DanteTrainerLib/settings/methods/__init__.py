"""The settings that are a method's own: a file and a dataclass a method."""
