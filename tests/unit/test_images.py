"""The Containerfiles, the scripts beside them, and how digests are written into the files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.images import building, pinning
from deploy.images.building import FOLDER, NAMES, ROOT, Plan, command, containerfile, tag
from fairloop.errors import InvalidInput, PreconditionFailed

BIN = Path(sys.executable).parent


def text(name: str) -> str:
    return containerfile(name).read_text()


def test_hadolint_has_nothing_to_say() -> None:
    files = [str(containerfile(name)) for name in NAMES]
    assert sorted(files) == sorted(str(path) for path in FOLDER.glob("*.Containerfile"))
    done = subprocess.run([BIN / "hadolint", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    for name in NAMES:  # what is ignored is one rule, with its reason in the line above the first
        assert set(re.findall(r"hadolint ignore=(\S+)", text(name))) == {"DL3008"}
        assert "its mirrors keep only the newest" in text(name)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_two_stages_a_user_labels_and_one_process(name: str) -> None:
    found = text(name)
    assert len(re.findall(r"^FROM \$\{BASE\}", found, re.MULTILINE)) == 2
    last = found.rpartition("FROM ${BASE}")[2]
    assert "pip install" not in last
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "org.opencontainers.image.version" in last
    assert "org.opencontainers.image.licenses" in last
    starts = re.findall(r"^(ENTRYPOINT|CMD) (.+)$", last, re.MULTILINE)
    assert starts == [
        ("CMD", '["prefect", "version"]')
        if name == "flows"
        else ("ENTRYPOINT", f'["python3", "-m", "services.{name}"]')
    ]
    if name != "flows":
        assert 'CMD ["python3", "-m", "fairloop.serving.health"]' in last


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_its_own_service_and_its_own_extra_only(name: str) -> None:
    extras = re.findall(r"^ARG EXTRAS=(.+)$", text(name), re.MULTILINE)
    assert extras == ["leaks,stats,worker" if name == "flows" else name]
    copied = set(re.findall(r"^COPY (?:--\S+ )*services/(\w+) ", text(name), re.MULTILINE))
    assert copied == (set() if name == "flows" else {name})
    if name == "annotator":  # what is checked of it depends on what it was built with
        assert 'fairloop.extras="${EXTRAS}"' in text(name).rpartition("FROM ${BASE}")[2]


def test_what_is_sent_to_a_build_is_named_one_by_one() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines[1:] if line.startswith("!")}
    needed = {
        source.split("/")[0]
        for name in NAMES
        for line in re.findall(r"^COPY ([^-].*)$", text(name), re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert allowed == needed


def test_names_of_images_tell_release_and_compute_where_it_matters() -> None:
    assert tag("generator", "cuda").endswith(":0.1.0-cuda")
    assert tag("flows", "cuda") == "fairloop/flows:0.1.0"
    with pytest.raises(InvalidInput, match="none of generator, annotator"):
        tag("prefect")


def test_a_build_is_told_its_base_its_mounts_and_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buildah = tmp_path / "buildah"
    buildah.write_text("#!/bin/sh\n")
    buildah.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(shutil.which('git') or '').parent}")
    words = command(
        "generator", Plan(compute="cuda", volumes=("/a:/a:ro",), arguments=("EXTRAS=diffusion",)), "made/base"
    )
    arguments = {words[i + 1] for i, word in enumerate(words) if word == "--build-arg"}
    assert {"EXTRAS=diffusion", "BASE=made/base", "COMPUTE=cuda"} <= arguments
    assert words[words.index("--volume") + 1] == "/a:/a:ro"
    assert words[-1] == str(ROOT)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(PreconditionFailed, match="apt-get install buildah"):
        building.needed("buildah", "buildah")
    with pytest.raises(InvalidInput, match="there is no file"):
        building.base_image(str(tmp_path / "missing.tar"))


def test_pinning_writes_digests_of_other_publishers_beside_their_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry is asked through skopeo; here a program of that name answers."""
    digest = "sha256:" + "1f" * 32
    skopeo = tmp_path / "skopeo"
    skopeo.write_text(f'#!/bin/sh\necho "$4" >> {tmp_path}/asked\necho {digest}\n')
    skopeo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    copies = []
    for path in pinning.files():
        copies.append(tmp_path / f"{len(copies)}-{path.name}")
        copies[-1].write_text(path.read_text())
    found = pinning.pin(copies)
    assert set(found) == {"debian:12.12-slim", "postgres:17.6", "minio/minio:RELEASE.2025-09-07T16-13-09Z"}
    assert set((tmp_path / "asked").read_text().split()) == {
        "docker://docker.io/library/debian:12.12-slim",
        "docker://docker.io/library/postgres:17.6",
        "docker://docker.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",
    }
    everything = "".join(copy.read_text() for copy in copies)
    assert everything.count(f"ARG BASE=debian:12.12-slim@{digest}\n") == len(NAMES)
    assert f"image: postgres:17.6@{digest}\n" in everything
    assert f'{{name: postgres, newTag: "17.6", digest: {digest}}}' in everything
    assert not re.search(r"fairloop/\w+:[^\n]*@sha256", everything), "images of our own are left alone"
    again = [copy.read_text() for copy in copies]
    pinning.pin(copies)
    assert [copy.read_text() for copy in copies] == again


def test_a_registry_that_does_not_answer_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skopeo = tmp_path / "skopeo"
    skopeo.write_text("#!/bin/sh\necho 'no such host' >&2\nexit 1\n")
    skopeo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    copy = tmp_path / "kustomization.yaml"
    copy.write_text('images:\n  - {name: postgres, newTag: "17.6"}\n')
    with pytest.raises(
        PreconditionFailed, match=r"postgres:17\.6: its registry did not tell a digest: no such host"
    ):
        pinning.pin([copy])
    assert "digest" not in copy.read_text()
