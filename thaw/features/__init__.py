"""Feature extraction: the activations of the frozen layers, cached on disk, and what each phase trains on."""
