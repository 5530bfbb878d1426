"""The classifier: a pretrained network with a new head."""
