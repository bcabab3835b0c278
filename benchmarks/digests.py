"""What a run leaves, as sha256 of every file: two versions of the program give the same results where the lists agree.

    python benchmarks/digests.py FOLDER > before.txt        of one version
    python benchmarks/digests.py OTHER_FOLDER > after.txt   of the other; then: diff before.txt after.txt

The demonstration is run over the shipped pair, then `measure`, `tuning`, `filters`, `sharing`, `maximize` (three
recipes, neurons and units) and `perturb` on its first record. Facts of the moment (dates, versions, digests of tables)
are left out of JSON files; nothing else is: not a bit of any array may differ. All runs on one thread, since sums
of floats depend on their order.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

MODEL = "shipped:resnet34"
MOMENT = {
    "created",
    "date",
    "finished",
    "started",
    "seconds",
    "versions",
    "environment",
    "digests",
    "files",
    "unitscope",
}
"""Keys of JSON files whose values tell of the run, and not of its result."""


def main() -> None:
    folder = Path(sys.argv[1])
    record = folder / "records" / "resnet34"
    for command in commands(folder, record):
        run(command)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "atlas" not in path.relative_to(folder).parts:
            print(f"{digest(path)}  {path.relative_to(folder)}")


def commands(folder: Path, record: Path) -> list[list[str]]:
    known = ["--record", str(record)]
    return [
        ["demo", "--to", str(folder)],
        ["measure", str(record)],
        ["tuning", MODEL, *known, "--sites", "maxpool", "layer1.0.add"],
        ["filters", MODEL, *known],
        ["sharing", MODEL, *known, "--untrained", "1", "--batch", "64"],
        ["maximize", MODEL, "layer2.0.add:0-3", "maxpool:2", *known],
        ["maximize", MODEL, "layer1.1.add:0-1", "layer3.0.add:5@3,4", *known, "--recipe", "kobayashi2020"],
        ["maximize", MODEL, "layer4.0.add:1", *known, "--at", "all", "--recipe", "zipser2015", "--seeds", "2"],
        ["perturb", MODEL, str(labelled_images(folder)), *known, "--units", "maxpool:0-3", "--seeds", "2"],
    ]


def labelled_images(folder: Path) -> Path:
    """A few noisy pictures of the classes 0 and 1 of the shipped networks, as a folder of folders."""
    import numpy as np
    from PIL import Image

    from unitscope.networks import load

    classes = load(MODEL).classes
    place = folder / "labelled"
    for number, label in enumerate(classes[:2]):
        (place / label).mkdir(parents=True, exist_ok=True)
        for index in range(6):
            pixels = np.random.default_rng([number, index]).integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((300, 280)).save(place / label / f"{index}.png")
    return place


def run(command: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    print(f"unitscope {' '.join(command)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "unitscope", *command], check=True, env=environment, stdout=sys.stderr)


def digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        content = json.dumps(without_moment(json.loads(content)), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def without_moment(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_moment(of) for key, of in value.items() if key not in MOMENT}
    if isinstance(value, list):
        return [without_moment(of) for of in value]
    return value


if __name__ == "__main__":
    main()
