"""Folders, lists and tar shards as sets of images; what is wrong with them is told in words."""

from __future__ import annotations

import io
import os
import pickle
import random
import string
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitscope.errors import BadInput
from unitscope.stimuli import folders
from unitscope.stimuli.images import Item, Unreadable, digest, open_images, reopen
from unitscope.stimuli.items import is_image, path_of, uri_of


def fill(folder: Path, names: list[str]) -> Path:
    """A folder in which each named file holds its own name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
    return folder


def uris(images: object) -> list[str]:
    return [item.uri for item in images.items]  # type: ignore[attr-defined]


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_is_sorted_by_path_and_labeled_by_its_first_sub_folder(tmp_path):
    fill(tmp_path, ["b/z.jpg", "b/a.PNG", "a-c/x.jpeg", "a/deep/er/y.webp", "top.jpg"])
    images = open_images(tmp_path)
    assert images.items == (
        Item("a-c/x.jpeg", "a-c"),
        Item("a/deep/er/y.webp", "a"),
        Item("b/a.PNG", "b"),
        Item("b/z.jpg", "b"),
        Item("top.jpg", None),
    )
    assert [images.bytes(i) for i in range(5)] == [item.uri.encode() for item in images.items]
    assert images.labels == ("a", "a-c", "b")
    assert images.source == str(tmp_path)
    assert images.note == ""


def test_what_is_no_image_or_hidden_is_left_out(tmp_path):
    fill(tmp_path, ["a.jpg", ".b.jpg", ".cache/c.jpg", "notes.txt", "jpg", "._a.jpg", "d.jpg.txt", ".jpg"])
    images = open_images(tmp_path)
    assert uris(images) == ["a.jpg"]
    assert images.note == "left out: 2 .txt, 1 without an ending"
    assert repr(images).endswith(", left out: 2 .txt, 1 without an ending)")


def test_pictures_of_a_kind_that_is_not_read_are_counted(tmp_path):
    fill(tmp_path, ["a.jpg", *(f"IMG_{i}.HEIC" for i in range(5)), "d/x.dng", "d/b.png", "list.csv", "e.psd"])
    assert open_images(tmp_path).note == (
        "left out: 5 .heic, 1 .dng, 1 .psd (pictures of a kind that is not read: convert them to JPEG or PNG), 1 .csv"
    )
    fill(tmp_path / "alone", ["x.heic"])
    with pytest.raises(
        BadInput, match=r"1 file \(1 \.heic\)\. Of these, \.heic are pictures of a kind that is not read"
    ):
        open_images(tmp_path / "alone")


def test_the_order_does_not_depend_on_the_order_on_disk(tmp_path, monkeypatch):
    fill(tmp_path, [f"{a}/{b}.jpg" for a in "xyz" for b in range(10)])
    listed, sets = folders.entries, []
    for seed in (1, 2):
        chance = random.Random(seed)
        monkeypatch.setattr(folders, "entries", lambda folder, r=chance: r.sample(found := listed(folder), len(found)))
        sets.append(open_images(tmp_path))
    assert sets[0].items == sets[1].items
    assert sets[0].fingerprint == sets[1].fingerprint


def test_the_fingerprint_sees_names_labels_and_lengths_and_nothing_of_the_place(tmp_path):
    one = open_images(fill(tmp_path / "one", ["a/x.jpg", "a/y.jpg"]))
    same = open_images(fill(tmp_path / "same", ["a/x.jpg", "a/y.jpg"]))
    renamed = open_images(fill(tmp_path / "renamed", ["a/x.jpg", "a/w.jpg"]))
    longer_folder = fill(tmp_path / "longer", ["a/x.jpg", "a/y.jpg"])
    (longer_folder / "a/x.jpg").write_bytes(b"a longer one")
    listed = tmp_path / "same" / "list.csv"
    listed.write_text("uri,label\na/x.jpg,b\na/y.jpg,a\n")
    found = [one, renamed, open_images(longer_folder), open_images(listed)]
    assert one.fingerprint == same.fingerprint
    assert len({images.fingerprint for images in found}) == 4
    assert len(one.fingerprint) == 64


def test_links_are_followed_each_folder_once_and_loops_end(tmp_path):
    fill(tmp_path / "outside", ["o.jpg"])
    root = fill(tmp_path / "root", ["a/x.jpg", "b/y.jpg"])
    (root / "a" / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "0again").symlink_to(root / "b")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "b" / "also.jpg").symlink_to(root / "a" / "x.jpg")
    images = open_images(root)
    assert uris(images) == ["a/x.jpg", "b/also.jpg", "b/y.jpg", "out/o.jpg"]
    assert images.bytes(1) == b"a/x.jpg"


def test_dangling_and_looping_links_and_pipes_are_images_that_cannot_be_read(tmp_path):
    fill(tmp_path, ["a.jpg"])
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    images = open_images(tmp_path)
    assert uris(images) == ["a.jpg", "gone.jpg", "loop.jpg", "pipe.jpg"]
    assert images.bytes(0) == b"a.jpg"
    for image, story in ((1, "link to a file that is not there"), (2, "symbolic links"), (3, "not a regular file")):
        with pytest.raises(Unreadable, match=story):
            images.bytes(image)


def test_a_file_that_vanished_or_may_not_be_read_tells_so(tmp_path):
    fill(tmp_path, ["a.jpg", "b.jpg"])
    images = open_images(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").chmod(0)
    with pytest.raises(Unreadable, match="the file is not there"):
        images.bytes(0)
    user = os.geteuid()
    try:
        os.seteuid(65534 if user == 0 else user)  # root may read everything; nobody may not
        with pytest.raises(Unreadable, match="permission denied"):
            images.bytes(1)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["a.tar", "a.csv", "a.jpg", "a.parquet"])
def test_a_source_that_may_not_be_read_is_told(tmp_path, name):
    fill(tmp_path, [name])
    (tmp_path / name).chmod(0)
    for folder in (tmp_path, *tmp_path.parents):  # with several test processes they are one more
        if folder.owner() == tmp_path.owner() and folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(0o755)
    user = os.geteuid()
    try:
        os.seteuid(65534 if user == 0 else user)
        with pytest.raises(BadInput, match=r"may not be read \(permission denied\)"):
            open_images(tmp_path / name)
    finally:
        os.seteuid(user)


def test_a_folder_that_cannot_be_listed_stops_the_opening(tmp_path, monkeypatch):
    fill(tmp_path, ["a/x.jpg", "b/y.jpg"])
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("b/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(BadInput, match=r"b/ cannot be listed \(permission denied\), so its images would be missed"):
        open_images(tmp_path)


def test_names_that_are_no_utf8_and_very_long_ones(tmp_path):
    long = "l" * 251 + ".jpg"
    strange = os.fsdecode(b"caf\xe9/\xff.jpg")
    fill(tmp_path, [long, strange, "caf\u00e9.jpg", "back\\slash.jpg", "new\nline.jpg"])
    images = open_images(tmp_path)
    assert sorted(uris(images)) == sorted(
        [long, r"caf\xe9/\xff.jpg", "caf\u00e9.jpg", "back\\\\slash.jpg", "new\nline.jpg"]
    )
    for image, item in enumerate(images):
        item.uri.encode("utf-8")
        assert images.bytes(image) == os.fsencode(path_of(item.uri))
    assert {item.label for item in images} == {None, r"caf\xe9"}
    assert images.fingerprint


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name))
def test_every_name_has_its_own_printable_form_and_comes_back(name):
    path = os.fsdecode(name)
    uri_of(path).encode("utf-8")
    assert os.fsencode(path_of(uri_of(path))) == name


def test_a_missing_folder_names_what_is_near(tmp_path):
    (tmp_path / "photographs").mkdir()
    with pytest.raises(BadInput, match=rf"photografs does not exist\. Close: {tmp_path}/photographs\."):
        open_images(tmp_path / "photografs")
    with pytest.raises(BadInput, match=rf"Already {tmp_path}/photo does not\. Close: {tmp_path}/photographs"):
        open_images(tmp_path / "photo" / "val")


@pytest.mark.parametrize("source", ["", "a\0b"])
def test_what_is_no_path_is_told(source):
    with pytest.raises(BadInput, match="is no path"):
        open_images(source)


def test_a_folder_without_images_tells_what_it_holds(tmp_path):
    with pytest.raises(BadInput, match=r"no image in .*: it is empty, or everything in it is hidden\. Images end in"):
        open_images(tmp_path)
    fill(tmp_path, ["a.txt", "b.txt", "c.csv", "sub/README"])
    with pytest.raises(BadInput, match=r"no image in .*: 4 files \(2 \.txt, 1 \.csv, 1 without an ending\)"):
        open_images(tmp_path)


def test_an_image_file_is_a_set_of_one_and_images_are_themselves(tmp_path):
    fill(tmp_path, ["a/x.jpg"])
    images = open_images(str(tmp_path / "a" / "x.jpg"))
    assert images.items == (Item("x.jpg", None),)
    assert images.bytes(0) == b"a/x.jpg"
    assert open_images(images) is images


def test_a_set_goes_to_another_process(tmp_path):
    images = open_images(fill(tmp_path, ["a/x.jpg", "a/y.jpg"]))
    copy = pickle.loads(pickle.dumps(images))
    assert copy.items == images.items
    assert copy.bytes(1) == b"a/y.jpg"
    error = pickle.loads(pickle.dumps(Unreadable("it is empty")))
    assert (error.reason, str(error)) == ("it is empty", "it is empty")


def test_an_image_beyond_the_last_is_an_index_error(tmp_path):
    images = open_images(fill(tmp_path, ["a.jpg"]))
    for image in (-1, 1):
        with pytest.raises(IndexError, match="of a set of 1"):
            images.bytes(image)


@pytest.mark.parametrize("name", ["a.jpg", "A.JPEG", "b.c.png", "x.TiFf"])
def test_endings_that_count(name):
    assert is_image(name)


@pytest.mark.parametrize("name", ["a", ".jpg", ".a.jpg", "jpg", "a.jpg.txt", "a."])
def test_endings_that_do_not(name):
    assert not is_image(name)


# --- lists ----------------------------------------------------------------------------------------


def test_a_list_gives_order_and_labels(tmp_path):
    fill(tmp_path, ["x.jpg", "sub/y.jpg"])
    other = fill(tmp_path / "other", ["z.jpg"]) / "z.jpg"
    path = tmp_path / "list.csv"
    path.write_bytes(f"\ufefflabel, uri ,more\ndog,sub/y.jpg,1\n,x.jpg,2\ncat,{other},3\ncat,a/../x.jpg,4\n".encode())
    images = open_images(path)
    assert images.items == (
        Item("sub/y.jpg", "dog"),
        Item("x.jpg", None),
        Item(str(other), "cat"),
        Item("a/../x.jpg", "cat"),
    )
    assert [images.bytes(i) for i in range(3)] == [b"sub/y.jpg", b"x.jpg", b"z.jpg"]
    assert list(images.sizes) == [9, 5, 5, -1]


def test_a_list_tells_which_images_are_of_one_photograph(tmp_path):
    fill(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    path = tmp_path / "list.csv"
    path.write_text("uri,label,photograph\na.jpg,dog,one\nb.jpg,cat,\nc.jpg,dog,one\nd.jpg,cat,b.jpg\n")
    images = open_images(path)
    assert [item.photograph for item in images] == ["one", None, "one", "b.jpg"]
    assert images.photographs.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("text", "story"),
    [
        (
            "file,label\na.jpg,b\n",
            r"neither a list of images nor tar shards\. A list .* this one begins with 'file,label'",
        ),
        ("", r"neither a list of images nor tar shards"),
        ("uri,label\n", r"names no image: below its header there is nothing"),
        ("uri\n../a.jpg\n", r"line 2 of .* names '\.\./a\.jpg', which leaves the folder of the list"),
        ("uri\nsub/../../a.jpg\n", r"leaves the folder of the list"),
        ("uri,label\n,dog\n", r"line 2 of .* names no file"),
        ("uri\nnothing.jpg\n", r"none of the 1 files that .* names is there; the first is 'nothing\.jpg'"),
        ('uri\n"' + "x" * 200_000 + "\n", r"is not a list of images: after line 1 comes a field larger"),
    ],
)
def test_what_is_no_list_is_told(tmp_path, text, story):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=story):
        open_images(path)


def test_bytes_that_are_no_text_are_no_list(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(BadInput, match=r"not a list of images|neither a list"):
        open_images(path)


# --- tar shards -----------------------------------------------------------------------------------


def tar(path: Path, members: dict[str, bytes], kind: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, kind) as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def test_shards_give_labels_from_folders_and_keep_the_order_of_the_tar(tmp_path):
    tar(
        tmp_path / "t-1.tar",
        {"./dog/b.jpg": b"1b", "cat/a.jpg": b"1a", "readme.txt": b"", "train/cat/._a.jpg": b"", ".c/h.jpg": b""},
    )
    tar(tmp_path / "t-0.tar", {"x.jpg": b"0x", "train/cat/y.png": b"0y", "../up.jpg": b"0u"})
    (tmp_path / "classes.csv").write_text("wnid\n")
    items = (
        Item("t-0.tar//x.jpg", None),
        Item("t-0.tar//train/cat/y.png", "cat"),
        Item("t-0.tar//../up.jpg", None),
        Item("t-1.tar//./dog/b.jpg", "dog"),
        Item("t-1.tar//cat/a.jpg", "cat"),
    )
    sources = [tmp_path, tmp_path / "t-*.tar", [tmp_path / "t-1.tar", tmp_path / "t-0.tar"]]
    for images in map(open_images, sources):
        assert images.items == items
        assert [images.bytes(i) for i in range(5)] == [b"0x", b"0y", b"0u", b"1b", b"1a"]
    assert len({open_images(source).fingerprint for source in sources}) == 1
    assert open_images(sources[1]).source == str(tmp_path / "t-*.tar")
    assert sorted(os.listdir(tmp_path)) == ["classes.csv", "t-0.tar", "t-1.tar"]


def test_webdataset_labels_stand_beside_the_image(tmp_path):
    path = tar(
        tmp_path / "w.tar",
        {"d/007.cls": b"3\n", "d/007.jpg": b"a", "d/008.seg.png": b"b", "d/008.cls": b" owl ", "d/009.jpg": b"c"},
    )
    images = open_images(path)
    assert [(item.uri, item.label) for item in images] == [("w.tar//d/007.jpg", "3"), ("w.tar//d/009.jpg", "d")]
    assert images.note == "left out: 1 masks and other parts of pictures"


@pytest.mark.parametrize(
    ("members", "labels"),
    [
        ({"s.0.png": "", "s.0.cls": "a", "s.1.png": "", "s.1.cls": "b"}, {"s.0": "a", "s.1": "b"}),
        ({"s.0.png": "", "s.0.cls": "a", "s.1.png": ""}, {"s.0": "a", "s.1": None}),
        ({"s.0.png": "", "s.1.png": "", "s.cls": "a", "s.1.cls": "b"}, {"s.0": "a", "s.1": "b"}),
        ({"1.left.jpg": "", "1.right.jpg": "", "1.cls": "7"}, {"1.left": "7", "1.right": "7"}),
        ({"1.jpg": "", "1.seg.png": "", "1.depth.png": "", "1.edited.jpg": "", "1.cls": "7"}, {"1": "7"}),
        ({"1.rgb.png": "", "1.mask.png": "", "1.cls": "7"}, {"1.rgb": "7"}),
        ({"1.png": "", "1.JPG": "", "1.cls": "7", "2.jpg": "", "2.png": ""}, {"1": "7", "2": None}),
        ({"1.jpg": "", "1.json": '{"label": 3, "caption": "x"}'}, {"1": "3"}),
        ({"1.jpg": "", "1.json": '{"class": "owl"}', "1.txt": "an owl on a tree"}, {"1": "owl"}),
        ({"1.jpg": "", "1.json": '{"label": 3}', "1.cls": "4"}, {"1": "4"}),
        ({"1.jpg": "", "1.cls.txt": "owl"}, {"1": "owl"}),
        ({"1.jpg": "", "1.json": "[" * 100_000}, {"1": None}),
        ({"1.jpg": "", "1.json": '{"label": true, "cls": [1]}'}, {"1": None}),
        ({"1.jpg": "", "1.json": "not JSON", "1.txt": "a caption"}, {"1": None}),
        ({"d/v1.2/n01.5.JPEG": "", "d/v1.2/n01.5.cls": "1", "d/v1.cls": "9"}, {"d/v1.2/n01.5": "1"}),
        ({"d/v1.2/a.jpg": "", "d/v1.cls": "9"}, {"d/v1.2/a": "v1.2"}),
        ({"1.jpg": "", "1.cls": "x" * (1 << 21)}, {"1": None}),
        ({"1.jpg": "", "1.cls": " \n"}, {"1": None}),
    ],
)  # fmt: skip
def test_labels_are_found_by_the_longest_stem_and_parts_are_no_pictures(tmp_path, members, labels):
    path = tar(tmp_path / "w.tar", {name: text.encode() for name, text in members.items()})
    found = {item.uri.removeprefix("w.tar//").rpartition(".")[0]: item.label for item in open_images(path)}
    assert found == labels


def test_of_a_labeled_stem_the_photograph_is_the_picture(tmp_path):
    names = ("1.png", "1.JPG", "1.cls", "2.jpg", "2.png", "3.png", "3.bmp", "3.txt")
    images = open_images(tar(tmp_path / "w.tar", dict.fromkeys(names, b"x")))
    assert uris(images) == [f"w.tar//{name}" for name in ("1.JPG", "2.jpg", "2.png", "3.png")]
    assert images.note == "left out: 2 masks and other parts of pictures, 1 .txt"


def test_what_is_left_out_of_shards_is_counted_over_all(tmp_path):
    tar(tmp_path / "a.tar", {"1.jpg": b"", "1.txt": b"", "1.json": b"{}", ".x.jpg": b"", "2.heic": b""})
    tar(tmp_path / "b.tar", {"3.jpg": b"", "3.seg.png": b"", "3.txt": b"", "4.heic": b""})
    fill(tmp_path, ["c.tar.gz", "c.parquet", "read.me"])
    images = open_images(tmp_path)
    assert uris(images) == ["a.tar//1.jpg", "b.tar//3.jpg"]
    assert images.note == (
        "left out: 2 .heic (pictures of a kind that is not read: convert them to JPEG or PNG), "
        "1 masks and other parts of pictures, 2 .txt, 1 .gz, 1 .me, 1 .parquet"
    )
    with pytest.raises(BadInput, match=r"no member's name ends like an image's \(left out: 1 \.heic"):
        open_images(tar(tmp_path / "h.tar", {"1.heic": b""}))


def header_of(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member's header with any size, a negative one, too."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def records(facts: dict[str, str]) -> bytes:
    """The body of a pax header."""
    body = b""
    for name, value in facts.items():
        line = f" {name}={value}\n".encode()
        length = len(line) + 1
        while len(str(length)) + len(line) != length:
            length = len(str(length)) + len(line)
        body += str(length).encode() + line
    return body


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


BACK = padded(records({"size": "-1024"}))

HOSTILE = {
    "backward": header_of("p", 12, tarfile.XHDTYPE) + BACK + header_of("x.jpg", 0),
    "negative": header_of("x.jpg", -512),
    "long name of less than nothing": header_of("x.jpg", -512, tarfile.GNUTYPE_LONGNAME),
    "huge facts": header_of("p", 2 << 20, tarfile.XHDTYPE) + bytes(2 << 20) + header_of("x.jpg", 0),
    "huge global facts": header_of("p", 2 << 20, tarfile.XGLTYPE) + bytes(2 << 20) + header_of("x.jpg", 0),
    "names of names": header_of("x", 1, tarfile.GNUTYPE_LONGNAME) * 5000 + header_of("x.jpg", 0),
    "larger than any disk": header_of("x.jpg", 1 << 70),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_tar_that_was_made_to_harm_is_told(tmp_path, data):
    (tmp_path / "h.tar").write_bytes(data + bytes(1024))
    with pytest.raises(BadInput, match=r"h\.tar (cannot be read as a tar file|is damaged or cut off)|no image in"):
        open_images(tmp_path / "h.tar")


def test_names_that_leave_the_tar_are_names_and_devices_are_left_out(tmp_path):
    path = tmp_path / "o.tar"
    with tarfile.open(path, "w") as file:
        for name, kind in (("../../etc/x.jpg", tarfile.REGTYPE), ("/etc/y.jpg", tarfile.REGTYPE),
                           ("d.jpg", tarfile.CHRTYPE), ("p.jpg", tarfile.FIFOTYPE), ("s.jpg", tarfile.SYMTYPE),
                           ("a/" * 2000 + "z.jpg", tarfile.REGTYPE)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = 4 if kind == tarfile.REGTYPE else 0
            file.addfile(member, io.BytesIO(b"data"))
    images = open_images(path)
    assert [item.label for item in images] == ["etc", "etc", "a"]
    assert [images.bytes(i) for i in range(3)] == [b"data"] * 3
    assert images.note == "left out: 3 links and devices"


def test_many_small_tar_oddities(tmp_path):
    path = tmp_path / "o.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:
        for name, data, kind in (
            ("a.jpg", b"first", tarfile.REGTYPE),
            ("l" * 300 + ".jpg", b"long", tarfile.REGTYPE),
            ("caf\udce9.jpg", b"latin", tarfile.REGTYPE),
            ("soft.jpg", b"", tarfile.SYMTYPE),
            ("hard.jpg", b"", tarfile.LNKTYPE),
            ("dir.jpg", b"", tarfile.DIRTYPE),
            ("a.jpg", b"second", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(data), kind, "a.jpg"
            file.addfile(member, io.BytesIO(data))
    images = open_images(path)
    found = {item.uri.partition("//")[2]: images.bytes(i) for i, item in enumerate(images)}
    assert found == {"a.jpg": b"second", "l" * 300 + ".jpg": b"long", r"caf\xe9.jpg": b"latin", "hard.jpg": b"first"}
    assert list(images.sizes) == [len(data) for data in found.values()]


def test_two_shards_of_one_name_in_two_folders(tmp_path):
    paths = [tar(tmp_path / folder / "s.tar", {"x.jpg": folder.encode()}) for folder in "ab"]
    images = open_images(paths)
    assert uris(images) == ["a/s.tar//x.jpg", "b/s.tar//x.jpg"]
    assert pickle.loads(pickle.dumps(images)).bytes(1) == b"b"


def test_a_tar_that_was_replaced_is_indexed_anew(tmp_path):
    path = tar(tmp_path / "s.tar", {"x.jpg": b"old"})
    assert open_images(path).bytes(0) == b"old"
    tar(path, {"y.jpg": b"new one"})
    os.utime(path, ns=(1, 1))
    assert uris(open_images(path)) == ["s.tar//y.jpg"]


@pytest.mark.parametrize("keep", [300, 512 + 100, 512 + 1024, 512 + 1024 + 512 + 7])
def test_a_tar_that_was_cut_off_is_refused(tmp_path, keep):
    path = tar(tmp_path / "s.tar", {"x.jpg": b"x" * 1000, "y.jpg": b"y" * 1000, "z.jpg": b"z" * 1000})
    path.write_bytes(path.read_bytes()[:keep])
    if keep == 512 + 1024:  # between two members: what is there is whole, and nothing says that there was more
        assert uris(open_images(path)) == ["s.tar//x.jpg"]
    else:
        with pytest.raises(BadInput, match=r"cannot be read as a tar file|is damaged or cut off"):
            open_images(path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = tar(tmp_path / "s.tar", {"x.jpg": b"x" * 1000, "y.jpg": b"y" * 1000})
    data = bytearray(path.read_bytes())
    data[1536 + 150] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"s\.tar is damaged or cut off after 1,536 of"):
        open_images(path)


def test_a_tar_that_shrinks_after_opening_gives_unreadable_images(tmp_path):
    path = tar(tmp_path / "s.tar", {"x.jpg": b"x" * 1000, "y.jpg": b"y" * 1000})
    images = open_images(path)
    path.write_bytes(path.read_bytes()[:2100])
    assert images.bytes(0) == b"x" * 1000
    with pytest.raises(Unreadable, match=r"its tar file ends after 52 of 1000 bytes"):
        images.bytes(1)
    path.unlink()
    with pytest.raises(Unreadable, match=r"its tar file: the file is not there"):
        images.bytes(0)


def test_what_is_no_tar_is_told(tmp_path):
    fill(tmp_path, ["text.tar", "a.jpg"])
    with pytest.raises(BadInput, match=r"text\.tar cannot be read as a tar file"):
        open_images(tmp_path / "text.tar")
    with pytest.raises(BadInput, match="is compressed, so its members cannot be read by offset"):
        open_images(tar(tmp_path / "s.tar.gz", {"x.jpg": b"x"}, "w:gz"))
    with pytest.raises(BadInput, match=r"no image in .*empty\.tar: no member's name ends like an image's"):
        open_images(tar(tmp_path / "empty.tar", {"x.txt": b"x"}))
    with pytest.raises(BadInput, match=r"a\.jpg is not a tar file\. Several paths, or a pattern, stand for tar shards"):
        open_images([tmp_path / "empty.tar", tmp_path / "a.jpg"])
    with pytest.raises(BadInput, match=r"emty\.tar does not exist\. Close: .*empty\.tar"):
        open_images([tmp_path / "emty.tar"])
    with pytest.raises(BadInput, match="an empty sequence of tar files"):
        open_images([])
    with pytest.raises(BadInput, match=r"no-\*\.tar does not exist"):
        open_images(tmp_path / "no-*.tar")


def test_webdataset_shards_with_images_beside_them_are_a_folder_of_images(tmp_path):
    fill(tmp_path, ["a.jpg"])
    tar(tmp_path / "s.tar", {"x.jpg": b"x"})
    assert uris(open_images(tmp_path)) == ["a.jpg"]


# --- again, from a record -------------------------------------------------------------------------


def test_a_folder_is_reopened_in_the_record_s_order_whatever_was_added(tmp_path):
    images = open_images(fill(tmp_path, ["b.jpg", "c.jpg", os.fsdecode(b"\xff.jpg")]))
    fill(tmp_path, ["a.jpg"])
    (tmp_path / "c.jpg").unlink()
    again = reopen(images.source, images.items)
    assert again.items == images.items
    assert again.bytes(0) == b"b.jpg"
    assert again.bytes(2) == b"\xff.jpg"
    with pytest.raises(Unreadable, match="the file is not there"):
        again.bytes(1)


def test_a_source_whose_own_name_is_strange_is_told_in_plain_text_and_reopened(tmp_path):
    folder = fill(tmp_path / os.fsdecode(b"caf\xe9"), ["a.jpg"])
    images = open_images(folder)
    assert images.source == f"{tmp_path}/caf\\xe9"
    assert reopen(images.source, images.items).bytes(0) == b"a.jpg"
    shards = open_images([tar(folder / "s.tar", {"x.jpg": b"x"})])
    assert shards.source == [f"{tmp_path}/caf\\xe9/s.tar"]
    assert reopen(shards.source, shards.items).bytes(0) == b"x"
    with pytest.raises(BadInput, match=r"caf\\xe8 does not exist\. Close: .*caf\\xe9\."):
        open_images(tmp_path / os.fsdecode(b"caf\xe8"))


def test_lists_and_shards_are_reopened_too(tmp_path):
    fill(tmp_path, ["sub/x.jpg", "y.jpg"])
    (tmp_path / "list.csv").write_text("uri,label\ny.jpg,a\nsub/x.jpg,b\n")
    listed = open_images(tmp_path / "list.csv")
    assert reopen(listed.source, listed.items).bytes(1) == b"sub/x.jpg"
    path = tar(tmp_path / "tars" / "s.tar", {"x.jpg": b"x", "y.jpg": b"y"})
    shards = open_images(path)
    tar(path, {"w.jpg": b"w", "y.jpg": b"y"})
    os.utime(path, ns=(1, 1))
    again = reopen(shards.source, shards.items)
    assert again.bytes(1) == b"y"
    with pytest.raises(Unreadable, match="no longer among the images of its source"):
        again.bytes(0)


def test_a_source_that_is_gone_is_told(tmp_path):
    with pytest.raises(BadInput, match="gone does not exist"):
        reopen(str(tmp_path / "gone"), [Item("a.jpg")])


def test_contents_have_a_short_digest():
    assert digest(b"") == "e3b0c44298fc1c14"
    assert set(digest(b"x")) <= set(string.hexdigits)


def test_images_need_neither_torch_nor_pandas():
    code = (
        "import sys, unitscope.stimuli.images, unitscope.stimuli.presentation, unitscope.stimuli.builtin;"
        "sys.exit(bool({'torch', 'pandas', 'matplotlib', 'skimage', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
