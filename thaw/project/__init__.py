"""Projects of one's own: made from a template, on the installed package."""
