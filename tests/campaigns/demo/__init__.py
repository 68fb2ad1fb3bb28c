"""The main job end to end in a minute: ``make demo``."""
