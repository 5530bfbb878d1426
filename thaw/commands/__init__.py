"""The command ``thaw``."""
