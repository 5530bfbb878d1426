"""Thaw: fine-tune pretrained image models in two phases."""
