"""Hydra imports this module before it composes conf/, also inside DVC: it makes the schema known."""

from thaw import config

config.register()
