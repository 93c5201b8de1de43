"""A rubric is checked on labelled pictures by a server: what it never says is named, by command and page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairloop import manifest
from fairloop.calibrations import load
from fairloop.commands.calibrating import calibrate
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1.annotator_pb2 import AnnotateRequest
from tests.support.bucket import own_bucket
from tests.support.faces import pngs
from tests.support.services import Services
from tests.support.tiny_annotators import clip_folder

pytestmark = [pytest.mark.annotator, pytest.mark.timeout(1200)]

TONES = tuple(str(tone) for tone in range(1, 11))
SUBJECTS = 60


@dataclass(frozen=True)
class World:
    services: Services
    store: ObjectStore
    variables: dict[str, str]
    dataset: Dataset


@pytest.fixture(scope="module")
def world(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The reference system's rubric on a small CLIP with random weights, and six faces of each tone."""
    variables, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("rubric")
    environment = {
        **variables,
        "FAIRLOOP_ANNOTATORS": "clip_s1",
        "FAIRLOOP_CLIP": f"local-dir:{clip_folder(folder / 'clip')}",
        "FAIRLOOP_DEVICE": "cpu",
        "FAIRLOOP_THREADS": "1",
    }
    services = Services(folder, environment)
    try:
        services.start("annotator")
        writer = DatasetWriter(store, "datasets/tones")
        for subject, (data,) in enumerate(pngs(SUBJECTS, 1, 9)):
            labels = {"skin_tone": TONES[subject % len(TONES)]}
            writer.add(Image(data, 64, 64, "png", f"tones:{subject}", labels=labels, source="synthetic"))
        yield World(services, store, variables, writer.finish())
    finally:
        services.stop()


def command(world: World, patch: pytest.MonkeyPatch, *words: str) -> Result:
    for name, value in world.variables.items():
        patch.setenv(name, value)
    address = f"annotator={world.services.address('annotator')}"
    return CliRunner().invoke(calibrate, [*words, "--address", address], catch_exceptions=False)


def test_tones_that_the_rubric_never_says_are_named_with_how_many_images_have_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = AnnotateRequest(
        dataset=world.dataset.name, annotators=["clip_s1"], attributes=["skin_tone"], cropped=True
    )
    table = world.services.annotator.annotate(request).result(600).annotations
    _, rows = read_table(world.store, table, ANNOTATIONS)
    said = rows[guess_column("skin_tone", "clip_s1")].to_pylist()
    never = [tone for tone in TONES if tone not in said]
    assert never
    assert len(never) < len(TONES)

    source = "skin_tone=clip_s1"
    done = command(
        world, monkeypatch, world.dataset.name, "--source", source, "--change", "blur", "--cropped"
    )
    assert done.exit_code == 0, done.output
    for tone in TONES:
        note = f"note: skin_tone by clip_s1: the annotator never says this ({tone} (6 images are))"
        assert (note in done.output) == (tone in never), tone
    name = next(word for word in done.output.split() if word.startswith("calibrations/")).rstrip(":")
    found = load(world.store, name)
    (one,) = found.measured
    assert one.never_predicted == tuple(never)
    truth = [dict(row["labels"])["skin_tone"] for row, _ in world.dataset.images()]
    expected = [[0] * len(TONES) for _ in TONES]
    for true, label in zip(truth, said, strict=True):
        expected[TONES.index(true)][TONES.index(label)] += 1
    assert [list(row) for row in one.confusion] == expected
    page = manifest.read_part(world.store, found.manifest.part("/index.html")).decode()
    for tone in TONES:
        assert (f"clip_s1 never says skin_tone {tone} here" in page) == (tone in never)


def test_a_calibration_is_given_as_json_to_machines(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command(
        world,
        monkeypatch,
        "datasets/tones",
        *("--source", "skin_tone=clip_s1", "--change", "blur", "--cropped", "--json"),
    )
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)["calibrations"]
    assert one["never_predicted"]
    assert sum(map(sum, one["confusion"])) == SUBJECTS


def test_a_source_that_the_server_lacks_is_said_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="'ita' is not loaded here"):
        command(
            world,
            monkeypatch,
            world.dataset.name,
            *("--source", "skin_tone_band=ita", "--state-dir", str(tmp_path)),
        )
