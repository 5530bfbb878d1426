"""Pretrained networks: how they are built, where their weights come from, where they may be frozen."""
