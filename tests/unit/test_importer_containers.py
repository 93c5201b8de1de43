"""WebDataset tars and Hugging Face data sets on disk, as their own libraries write them, and hostile ones."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import webdataset

from fairloop.errors import InvalidInput
from fairloop.importers import Problem, Record, UnusableFileError
from tests.support.layouts import layout, problems, records
from tests.support.trees import image_bytes, plant


def read(record: Record) -> bytes:
    assert record.read is not None
    return record.read()


def tar(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def test_what_webdataset_writes_is_read_with_facts_classes_and_captions(tmp_path: Path) -> None:
    facts = {"sex": "f", "who": "ann", "years": 7}
    with webdataset.TarWriter(str(tmp_path / "000.tar")) as writer:
        writer.write({"__key__": "a/1", "jpg": image_bytes(1), "json": facts, "cls": 3})
        writer.write({"__key__": "a/2", "png": image_bytes(2, ".png"), "txt": "a face"})
        writer.write({"__key__": "a/3", "txt": "no image"})
    found = records(
        "webdataset",
        tmp_path,
        subject="who",
        label=("gender=sex:f=female/m=male", "age_years=years", "kind=cls"),
    )
    assert [(r.path, r.subject, dict(r.labels)) for r in found] == [
        (
            "000.tar/a/1.jpg",
            "ann",
            {"gender": "female", "age_years": "7", "age": "3_9", "kind": "3"},
        ),
        ("000.tar/a/2.png", None, {"text": "a face"}),
    ]
    assert [read(r) for r in found] == [image_bytes(1), image_bytes(2, ".png")]


def test_shards_of_fairloop_need_no_options(tmp_path: Path) -> None:
    labels = json.dumps({"gender": "female", "file": "old/1.jpg"})
    beside = json.dumps({"labels": labels, "subject_id": "old:ann"}).encode()
    tar(tmp_path / "s.tar", [("k1.jpg", image_bytes(1)), ("k1.json", beside)], tarfile.USTAR_FORMAT)
    (found,) = records("webdataset", tmp_path)
    assert (found.subject, dict(found.labels)) == ("ann", {"gender": "female"})


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path: Path, form: int) -> None:
    name = f"{'ünïcode ' * 20}/{'x' * 120}.JPG"
    tar(tmp_path / "s.tar", [(name, image_bytes(1)), ("._hidden.jpg", b"apple")], form)
    (found,) = records("webdataset", tmp_path)
    assert (found.path, read(found)) == (f"s.tar/{name}", image_bytes(1))


def test_links_devices_and_paths_outside_are_told_and_nothing_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as file:
        for name, kind in (
            ("a.jpg", tarfile.SYMTYPE),
            ("b.jpg", tarfile.LNKTYPE),
            ("c.jpg", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
        pipe = tarfile.TarInfo("d.jpg")
        pipe.type = tarfile.FIFOTYPE
        file.addfile(pipe)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
    tar(tmp_path / "t.tar", [("../../e.jpg", b"x"), ("/f.jpg", b"x"), ("g.jpg", image_bytes(1))])
    assert problems("webdataset", tmp_path) == [
        "s.tar, 'a.jpg': is a link",
        "s.tar, 'b.jpg': is a link",
        "s.tar, 'c.jpg': is a device",
        "s.tar, 'd.jpg': is a pipe",
        "t.tar, '../../e.jpg': '../../e.jpg' leads out of the folder; paths are relative to it",
        "t.tar, '/f.jpg': '/f.jpg' leads out of the folder; paths are relative to it",
    ]
    assert sorted(os.listdir(tmp_path)) == ["s.tar", "t.tar"]


def test_two_images_under_one_key_and_broken_facts_are_told(tmp_path: Path) -> None:
    tar(
        tmp_path / "s.tar",
        [
            ("1.jpg", image_bytes(1)),
            ("1.png", image_bytes(2, ".png")),
            ("2.jpg", image_bytes(3)),
            ("2.json", b"[1, 2]"),
            ("3.jpg", image_bytes(4)),
            ("3.json", b'{"sex": {"nested": 1}}'),
            ("4.jpg", image_bytes(5)),
            ("4.json", b'{"sex": "x"}'),
            ("5.jpg", image_bytes(6)),
            ("5.json", b"[" * 100_000),
        ],
    )
    assert problems("webdataset", tmp_path, label=("gender=sex:f=female",)) == [
        "s.tar, 1: has 2 images under one key",
        "s.tar, 2.jpg: 2.json is no JSON object",
        "s.tar, 3.jpg: key 'sex' holds a dict, no text or number",
        "s.tar, 4.jpg: gender, key sex: 'x' is not one of f",
        "s.tar, 5.jpg: 5.json is no JSON object",
    ]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse(path: Path, head: bytes, size: int) -> None:
    """A file that promises a lot and takes no room on the disk."""
    path.write_bytes(head)
    os.truncate(path, len(head) + size)


def test_tars_that_lie_about_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(header("1.jpg", 10**12) + image_bytes(1))
    with pytest.raises(
        InvalidInput, match=r"is cut off: '1\.jpg' promises 1,000,000,000,000 bytes, \d+ follow"
    ):
        problems("webdataset", tmp_path)
    # A header that says more of the next member, 2 GB of it: `tarfile` would read it into memory.
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        sparse(path, header("x", 2 * 10**9, kind), 2 * 10**9 + 1024)
        with pytest.raises(InvalidInput, match="has a header of 2,000,000,000 bytes; at most 65,536"):
            problems("webdataset", tmp_path)
    # An image that is larger than any image, and facts larger than any facts: told, not read.
    sparse(path, header("1.jpg", 400_000_000), 400_000_000 + 1024)
    (one,) = [item for item in layout("webdataset", tmp_path).records() if isinstance(item, Record)]
    with pytest.raises(UnusableFileError, match="has 400,000,000 bytes; at most 320,000,000"):
        read(one)
    image = image_bytes(1)
    head = header("1.jpg", len(image)) + image + b"\0" * (-len(image) % 512) + header("1.json", 2**21)
    sparse(path, head, 2**21 + 1024)
    assert problems("webdataset", tmp_path) == ["s.tar, 1.jpg: 1.json has 2,097,152 bytes; at most 1,048,576"]


def test_files_that_are_no_tars_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    for data, said in [
        (b"", "is no tar file, or an empty one"),
        (b"\0" * 1024, "is no tar file, or an empty one"),
        (image_bytes(1, side=40), "is no tar file at byte 0"),
        (header("1.jpg", 4) + b"abcd" + b"\0" * 508 + b"x" * 512, "is no tar file at byte 1,024"),
        (
            header("p", 20, tarfile.XHDTYPE) + b"no pax header at all" + b"\0" * 492,
            "pax header that cannot be",
        ),
    ]:
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=said):
            problems("webdataset", tmp_path)
    path.rename(tmp_path / "s.tar.gz")
    with pytest.raises(InvalidInput, match=r"unpack s\.tar\.gz, compressed ones are not read"):
        layout("webdataset", tmp_path)
    with pytest.raises(InvalidInput, match=r"has no \.tar file"):
        layout("webdataset", plant(tmp_path / "none", "1.jpg"))


def test_a_pax_size_and_name_count_and_a_changed_tar_is_noticed(tmp_path: Path) -> None:
    image = image_bytes(1)
    told = b"".join(b"%d %s=%s\n" % (len(k) + len(v) + 3 + 2, k, v) for k, v in [(b"path", b"long/1.jpg")])
    size = str(len(image)).encode()
    told += b"%d size=%s\n" % (len(size) + 9, size)
    path = tmp_path / "s.tar"
    path.write_bytes(
        header("pax", len(told), tarfile.XHDTYPE)
        + told
        + b"\0" * (-len(told) % 512)
        + header("short.txt", 0)
        + image
        + b"\0" * (-len(image) % 512 + 1024)
    )
    (found,) = records("webdataset", tmp_path)
    assert (found.path, read(found)) == ("s.tar/long/1.jpg", image)
    with path.open("ab") as file:
        file.write(b"\0" * 512)
    with pytest.raises(UnusableFileError, match="changed while it was read"):
        read(found)


def saved(root: Path, rows: int = 4, **more: list[Any]) -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "sex": datasets.ClassLabel(names=["Male", "Female"]),
            "who": datasets.Value("string"),
            "years": datasets.Value("int32"),
            "note": datasets.Value("string"),
        }
    )
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": image_bytes(n), "path": f"{n}.jpg"} for n in range(rows)],
        "sex": [n % 2 for n in range(rows)],
        "who": [f"p{n // 2}" for n in range(rows)],
        "years": [20 + n for n in range(rows)],
        "note": ["x"] * rows,
        **more,
    }
    made = datasets.Dataset.from_dict(columns, features=features)
    root.parent.mkdir(parents=True, exist_ok=True)
    return made


MAPPED = {"subject": "who", "label": ("gender=sex:fairface_hub", "age_years=years")}


def test_a_data_set_saved_to_disk_is_read_by_the_names_of_its_classes(tmp_path: Path) -> None:
    made = saved(tmp_path / "one")
    made.save_to_disk(str(tmp_path / "one"), num_shards=2)
    found = records("hf-dataset", tmp_path / "one", **MAPPED)
    assert [(r.subject, r.labels["gender"], r.labels["age_years"], r.labels["age"]) for r in found] == [
        ("p0", "male", "20", "20_29"),
        ("p0", "female", "21", "20_29"),
        ("p1", "male", "22", "20_29"),
        ("p1", "female", "23", "20_29"),
    ]
    assert [read(r) for r in reversed(found)] == [image_bytes(n) for n in (3, 2, 1, 0)]
    assert found[2].path == "data-00001-of-00002.arrow/00000000"
    assert layout("hf-dataset", tmp_path / "one", **MAPPED).notes == ("columns that are not read: note",)


def test_a_data_set_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    saved(tmp_path / "one").save_to_disk(str(tmp_path / "one"))
    found = records("hf-dataset", tmp_path / "one")
    (path,) = (tmp_path / "one").glob("*.arrow")
    os.truncate(path, 8)
    with pytest.raises(UnusableFileError, match="changed while it was read"):
        read(found[0])


def test_splits_of_a_data_set_become_a_label(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": saved(tmp_path / "x"), "test": saved(tmp_path / "x", 2)})
    both.save_to_disk(str(tmp_path / "two"))
    found = records("hf-dataset", tmp_path / "two", **MAPPED)
    assert [r.labels["split"] for r in found] == ["train"] * 4 + ["test"] * 2
    assert found[4].path == "test/data-00000-of-00001.arrow/00000000"


def test_wrong_classes_ages_and_images_elsewhere_are_told_by_row(tmp_path: Path) -> None:
    bad = {"image": [{"bytes": None, "path": "/etc/passwd"}, None], "years": [300, 20], "sex": [0, None]}
    saved(tmp_path / "x", 2, **bad).save_to_disk(str(tmp_path / "one"))
    items = list(layout("hf-dataset", tmp_path / "one", **MAPPED).records())
    assert [str(item) for item in items if isinstance(item, Problem)] == [
        "data-00000-of-00001.arrow, row 1: age_years, column years: age '300' is not in years, 0–120"
    ]
    last = items[-1]
    assert isinstance(last, Record)
    assert "gender" not in last.labels
    with pytest.raises(UnusableFileError, match="has no bytes"):
        read(last)
    assert problems("hf-dataset", tmp_path / "one", label=("gender=sex:m=male",)) == [
        "data-00000-of-00001.arrow, row 1: gender, column sex: 'Male' is not one of m"
    ]


def test_folders_that_are_no_data_set_or_lead_outside_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "one"
    saved(root).save_to_disk(str(root))
    with pytest.raises(InvalidInput, match="there is no column 'sexx'"):
        layout("hf-dataset", root, label=("gender=sexx",))
    with pytest.raises(InvalidInput, match="'note' is no column of images; there are image"):
        layout("hf-dataset", root, image="note")
    state = json.loads((root / "state.json").read_text())
    for name, said in [("../../x.arrow", "leads out"), ("gone.arrow", "which is not there")]:
        (root / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": name}]}))
        with pytest.raises(InvalidInput, match=said):
            layout("hf-dataset", root)
    (root / "evil.arrow").write_bytes(b"ARROW1 no stream")
    (root / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": "evil.arrow"}]}))
    with pytest.raises(InvalidInput, match="is no Arrow file that can be read"):
        problems("hf-dataset", root)
    with pa.OSFile(str(root / "evil.arrow"), "wb") as sink:
        table = pa.table({"image": ["no struct"]})
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(InvalidInput, match="column image holds string"):
        problems("hf-dataset", root)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["../two"]}))
    with pytest.raises(InvalidInput, match="leads out"):
        layout("hf-dataset", root)
    (root / "dataset_dict.json").unlink()
    (root / "dataset_info.json").write_text("[]")
    with pytest.raises(InvalidInput, match="is no JSON object"):
        layout("hf-dataset", root)
    with pytest.raises(InvalidInput, match=r"state\.json is not there"):
        layout("hf-dataset", plant(tmp_path / "none", "1.jpg"))
