"""Hold the settings of ``compute`` that tests of extraction and of inputs share."""

from pathlib import Path

from thaw.config import schema


def settings(folder: Path) -> schema.Compute:
    """Return settings that extract by TensorFlow, four images at once, with the activation cache in a folder."""
    return schema.Compute(
        str(folder / "cache"),
        cache_gb=1,
        shared_cache="",
        shared_cache_gb=1,
        ray="",
        extractor="tensorflow",
        extract_batch_size=4,
        depths=[],
        device="auto",
        devices=1,
        workers=1,
        deterministic=True,
    )
