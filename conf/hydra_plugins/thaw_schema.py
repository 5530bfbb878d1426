"""Hydra imports this module before it composes conf/, also inside DVC: it makes schema and remembered choices known."""

from pathlib import Path

from thaw import config

config.register(Path(__file__).resolve().parents[1])
