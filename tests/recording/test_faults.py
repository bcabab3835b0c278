"""What can go wrong while a survey runs: it is killed at any moment, the disk is full, a part is damaged, numbers
overflow.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.recording.pictures import write_many
from tests.recording.test_survey import contents
from unitscope.cli.survey import survey_table
from unitscope.errors import Failure
from unitscope.networks import Network, load
from unitscope.record import open_record
from unitscope.recording.survey import survey

SURVEY = """
import os, random, resource, signal, sys, time, torch
torch.set_num_threads(1)
from unitscope.errors import Failure
from unitscope.networks import load
from unitscope.recording.survey import survey
images, to = sys.argv[1:3]
def run():
    network = load("resnet18", width=4, classes=2, size=32, seed=1)
    survey(network, images, to=to, sites=["bn1", "layer2.0.bn2"], put_aside_every=0, workers=1)
"""

KILLED_OFTEN = """
def child():
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    return pid
chance = random.Random(int(sys.argv[4]))
killed = 0
for _ in range(int(sys.argv[3])):
    pid = child()
    time.sleep(chance.uniform(0, 1.5))
    os.kill(pid, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
os.waitpid(child(), 0)
print(killed)
"""

FULL_DISK = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    run()
except Failure as story:
    print(story)
"""


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SURVEY + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_many(tmp_path_factory.mktemp("pictures"), 600)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed") / "record"
    done = run("run()", folder, path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(folder, undisturbed, tmp_path):
    done = run(KILLED_OFTEN, folder, tmp_path / "record", 20, 7)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    assert open_record(tmp_path / "record").facts["complete"]
    assert contents(tmp_path / "record") == contents(undisturbed)


def test_a_full_disk_gets_a_story_and_with_room_again_the_survey_resumes(folder, undisturbed, tmp_path):
    full = run(FULL_DISK, folder, tmp_path / "record")
    assert "cannot be written any more" in full.stdout, full.stderr
    assert "the same survey resumes" in full.stdout
    assert run("run()", folder, tmp_path / "record").returncode == 0
    assert contents(tmp_path / "record") == contents(undisturbed)


def test_a_truncated_part_is_found_out(folder, tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done > 300:
            raise Stop

    network = load("resnet18", width=4, classes=2, size=32, seed=1)
    with pytest.raises(Stop):
        survey(network, folder, to=tmp_path / "r", sites=["bn1"], put_aside_every=0, progress=stop)
    part = tmp_path / "r" / "parts" / "session.safetensors"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(Failure, match=r"is damaged .* to begin the survey anew"):
        survey(network, folder, to=tmp_path / "r", sites=["bn1"])


def test_images_that_change_meanwhile_are_found_out(folder, tmp_path):
    class Stop(Exception):
        pass

    def stop(*_: int) -> None:
        raise Stop

    (tmp_path / "images").mkdir()
    for name in ("0000.png", "0001.png"):
        (tmp_path / "images" / name).write_bytes((folder / name).read_bytes())
    network = load("resnet18", width=4, classes=2, size=32, seed=1)
    with pytest.raises(Stop):
        survey(network, tmp_path / "images", to=tmp_path / "r", sites=["bn1"], progress=stop)
    Image.new("RGB", (40, 40)).save(tmp_path / "images" / "0001.png")
    with pytest.raises(Failure, match="made with other images"):
        survey(network, tmp_path / "images", to=tmp_path / "r", sites=["bn1"])


def test_images_that_vanish_meanwhile_are_noted(folder, tmp_path):
    from unitscope.stimuli.images import open_images

    (tmp_path / "images").mkdir()
    for name in ("0000.png", "0001.png"):
        (tmp_path / "images" / name).write_bytes((folder / name).read_bytes())
    images = open_images(tmp_path / "images")
    (tmp_path / "images" / "0001.png").unlink()
    network = load("resnet18", width=4, classes=2, size=32, seed=1)
    record = survey(network, images, to=tmp_path / "r", sites=["bn1"])
    assert record.images().status.tolist() == ["ok", "unreadable"]
    assert record.units().images.tolist() == [1] * 4


def everything_odd(folder: Path) -> dict[str, str]:
    """A folder of odd images; by name what the record should say of them ("" where they are shown)."""
    noise = Image.effect_noise((40, 40), 60)
    noise.convert("RGB").save(folder / "good.png")
    whole = (folder / "good.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    header = struct.pack(">II5B", 30_000, 30_000, 8, 2, 0, 0, 0)
    (folder / "huge.png").write_bytes(
        whole[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + whole[33:]
    )
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.asarray(noise.convert("L"), dtype=np.uint16) * 257).save(folder / "sixteen.png")
    noise.convert("P").save(folder / "palette.png")
    noise.convert("RGBA").save(folder / "alpha.png")
    noise.save(folder / "gray.png")
    noise.save(folder / "animated.gif", save_all=True, append_images=[noise.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.convert("RGB").save(folder / "rotated.jpg", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "one_pixel.png")
    (folder / ("long" * 60 + ".png")).write_bytes(whole)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(whole)
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "looping.png").symlink_to("looping.png")
    return {
        "truncated.png": "truncated|broken|cut", "empty.jpg": "empty|no bytes|0 bytes", "text.jpg": "not|no image",
        "huge.png": "at most 100 million", "dangling.png": "", "looping.png": "",
    }  # fmt: skip


def test_each_odd_image_is_shown_or_noted_with_its_reason_and_strict_stops_at_the_first(tmp_path):
    (tmp_path / "images").mkdir()
    refused = everything_odd(tmp_path / "images")
    network = load("resnet18", width=4, classes=2, size=32, seed=1)
    table = survey(network, tmp_path / "images", to=tmp_path / "r", sites=["bn1"]).images()
    unreadable = table[table.status == "unreadable"].set_index("uri")
    assert set(unreadable.index) == set(refused)
    assert len(table) == len(refused) + 11
    for name, reason in refused.items():
        assert re.search(reason, unreadable.error[name]), (name, unreadable.error[name])
        assert unreadable.error[name]
    assert (table[table.status == "ok"].error.isna()).all()
    with pytest.raises(Failure, match=r"cannot be read: .*\. Without --strict it is noted and skipped\."):
        survey(network, tmp_path / "images", to=tmp_path / "s", sites=["bn1"], strict=True)
    assert "11 images (6 more could not be read)" in " ".join(survey_table(open_record(tmp_path / "r")).split())


def test_responses_that_are_not_finite_are_counted_and_enter_nothing(tmp_path):
    class Overflow(torch.nn.Module):
        """Unit 0 is the brightness; unit 1 overflows in the light; unit 2 divides zero by zero in the dark."""

        def __init__(self) -> None:
            super().__init__()
            self.act = torch.nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            light = x.mean(1, keepdim=True)
            return self.act(torch.cat([light, torch.exp(1000 * light), light / light], dim=1))

    for number, level in enumerate((0, 5, 255)):
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / f"{number}.png")
    network = Network(Overflow(), size=8, mean=(0, 0, 0), std=(1, 1, 1))
    record = survey(network, tmp_path, to=tmp_path / "r", resize=8)
    units = record.units()
    assert units.not_finite_images.tolist() == [0, 1, 1]
    assert units.images.tolist() == [3, 2, 2]
    assert np.isfinite(units.peak_max).all()
    stimuli = record.stimuli(pole="preferred")
    assert stimuli[stimuli.channel == 1].image.tolist() == [1, 0]
    assert stimuli[stimuli.channel == 2].image.tolist() == [1, 2]
    maps = record.array(f"response_map/{next(iter(record.sites))}")[...]
    assert np.isfinite(maps[0]).all()
    assert np.isnan(maps[1:]).all()
