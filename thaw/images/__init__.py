"""The pixels of an image: decoding, preprocessing and augmentation."""
