"""Base models of the catalogue are fetched by the hub's own client, or missed with one message."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fairloop import diffusion_catalogue
from fairloop.errors import DataLoss
from tests.support.hub import Hub, running

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"weights of a part"
CATALOGUE = f"""
schema = "fairloop.models/1"
[diffusion.part]
description = "a part"
sources = ["hf://gone/part@{COMMIT}", "hf://mirror/part@{COMMIT}/vae"]
megabytes = 1
obtain = "people get them from example.org/part"
origin = "example.org"
component = "vae"
[diffusion.part.files]
"config.json" = ""
"model.safetensors" = "{hashlib.sha256(WEIGHTS).hexdigest()}"
[diffusion.part.terms]
licence = "MIT"
commercial = "yes"
derivatives = "yes"
redistribution = "yes"
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    mirror = tmp_path / "mirror" / "vae"
    mirror.mkdir(parents=True)
    (mirror / "config.json").write_text("{}")
    (mirror / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "models.toml").write_text(CATALOGUE)
    with running(Hub({"mirror/part": tmp_path / "mirror"})) as made:
        yield made


def pull(hub: Hub, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fairloop models pull-diffusion part` against the hub, whose client reads the environment at import."""
    command = [str(Path(sys.executable).with_name("fairloop")), "models", "pull-diffusion", "part"]
    settings: Mapping[str, str] = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "FAIRLOOP_MODELS": str(tmp_path / "models.toml"),
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        **environment,
    }
    return subprocess.run(
        [*command, "--to", str(tmp_path / "into")], env=settings, capture_output=True, text=True, timeout=120
    )


def test_a_model_whose_first_address_is_gone_comes_from_the_next(hub: Hub, tmp_path: Path) -> None:
    found = pull(hub, tmp_path)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "into" / "vae" / "model.safetensors").read_bytes() == WEIGHTS
    assert f"part: {tmp_path / 'into' / 'vae'}" in found.stdout
    assert "fairloop models put-diffusion MODEL_FOLDER --vae" in found.stdout
    files = [path for path in hub.asked if "/resolve/" in path]
    assert len(files) == 2
    assert all(COMMIT in path for path in files), "another state than the pinned one was asked for"


def test_a_gated_model_needs_the_token_and_says_so(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("mirror/part")
    refused = pull(hub, tmp_path)
    assert refused.returncode == 1
    assert "refused (401): accept its terms on its page and set HF_TOKEN" in refused.stderr
    assert pull(hub, tmp_path, HF_TOKEN=hub.token).returncode == 0


def test_what_cannot_be_had_ends_in_one_message_with_files_hashes_place_and_command(
    hub: Hub, tmp_path: Path
) -> None:
    found = pull(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert found.returncode == 1
    assert hub.asked == []
    assert found.stderr.count("Error") == 1
    for part in (
        "config.json (sha256 not stated)",
        f"model.safetensors (sha256 {hashlib.sha256(WEIGHTS).hexdigest()})",
        "people get them from example.org/part",
        "fairloop models put-diffusion MODEL_FOLDER --vae FOLDER --name NAME --terms part",
    ):
        assert part in found.stderr


def test_another_file_than_the_catalogue_names_is_refused(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "vae" / "model.safetensors").write_bytes(b"other weights")
    found = pull(hub, tmp_path)
    assert found.returncode == 1
    assert "expected" in found.stderr
    with pytest.raises(DataLoss):
        diffusion_catalogue.verify(
            diffusion_catalogue.Base(
                name="x",
                description="",
                sources=(f"hf://a/b@{COMMIT}",),
                files={"model.safetensors": hashlib.sha256(WEIGHTS).hexdigest()},
                megabytes=1,
                obtain="",
                terms={"licence": "MIT", "commercial": "yes", "derivatives": "yes", "redistribution": "yes"},
                origin="",
            ),
            tmp_path / "mirror" / "vae",
        )


def test_every_base_model_of_the_catalogue_is_pinned_to_commits_and_has_terms() -> None:
    found = diffusion_catalogue.bases()
    assert {"stable-diffusion-v1-4", "stable-diffusion-v1-5", "stable-diffusion-2-1"} <= set(found)
    for base in found.values():
        assert [diffusion_catalogue.parse(source) for source in base.sources]
        assert base.terms.licence != "unknown"
    for text in ("hf://a/b@main", "hf://a/b", "https://a/b", f"hf://../b@{COMMIT}/../x"):
        with pytest.raises(ValueError, match="is not hf://owner/repository@commit"):
            diffusion_catalogue.parse(text)
