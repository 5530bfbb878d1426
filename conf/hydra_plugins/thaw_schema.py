"""Hydra imports this module before it composes conf/, also in DVC: it makes the schema and what was chosen known."""

from pathlib import Path

from thaw.config import load

load.register(Path(__file__).resolve().parents[1])
