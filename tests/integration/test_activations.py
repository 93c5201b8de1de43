"""A server looks into networks: layers, answers of units, masks on them, groups that they tell apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind
from sklearn.metrics import roc_auc_score

from fairloop import erasure, registry
from fairloop.activations import Opened, opened
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.pixels import fitted
from fairloop.provenance.inspection import inspect
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.v1 import annotator_pb2 as pb
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.common_pb2 import LabelSource
from services.annotator import classifier, classifier_network
from services.annotator.clip import ClipS1
from services.annotator.inside import look_inside
from services.annotator.networks import Networks
from services.recognizer import residual
from tests.support.activation_world import GENDERS, IMAGES, SMALL, SUBJECTS, World, activation_world
from tests.support.tiny_annotators import clip_folder

GIVEN = LabelSource(attribute="gender", annotator="given")


@pytest.fixture(scope="module")
def world(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with activation_world(s3, tmp_path_factory.mktemp("activations"), {}) as made:
        yield made


def parameters(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def by_hand(world: World) -> tuple[np.ndarray, np.ndarray]:
    """The third stage's maps and the embeddings of all pictures, from the recogniser's own service."""
    images = np.stack([fitted(pixels, 32) for pixels in world.pixels()])
    with torch.no_grad():
        x = residual.pixels(images, SMALL)
        for name in ("stem", "stage1", "stage2", "stage3"):
            x = getattr(world.net, name)(x)
        return x.numpy(), world.net.head(world.net.stage4(x)).numpy()


def answers(table: Opened, layer: str) -> np.ndarray:
    """All rows of a layer, NaN where there are none."""
    column = next(one for one in table.layers if one.layer == layer)
    rows = [row for group in table.groups([column.column]) for row in group[column.column].to_pylist()]
    none = [float("nan")] * column.units
    return np.array([none if row is None else row for row in rows], np.float32)


def test_layers_of_a_recogniser_are_listed_with_their_shapes(world: World) -> None:
    small = {layer.name: list(layer.shape) for layer in world.client.list_layers(world.recogniser).layers}
    assert (small["stage3"], small["head.2"]) == ([8, 4, 4], [10])
    lines = world.command("layers models/small").splitlines()
    assert [line.split() for line in lines if line.startswith("stage3 ")] == [
        ["stage3", "Sequential", "8", "×", "4", "×", "4", f"{parameters(world.net.stage3):,}"]
    ]


def test_pages_of_layers_follow_one_another(world: World) -> None:
    whole = world.client.list_layers(world.recogniser).layers
    request = pb.ListLayersRequest(network=world.recogniser, page_size=5)
    found: list[str] = []
    while True:
        reply = world.client.call(world.client.stub.ListLayers, request)
        found += [layer.name for layer in reply.layers]
        if not reply.next_page_token:
            break
        request.page_token = reply.next_page_token
    assert found == [layer.name for layer in whole]


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        ("ita", InvalidInput, "ita is no torch network; of the annotators, fairface, fairface_race4, clip"),
        ("nobody", InvalidInput, "neither an annotator that is a torch network"),
        ("models/small/versions/0123456789abcdef", NotFound, "does not exist"),
    ],
)
def test_what_cannot_be_looked_into_is_said(
    network: str, error: type[Exception], message: str, world: World
) -> None:
    with pytest.raises(error, match=message):
        world.client.list_layers(network)


def test_answers_are_those_of_a_forward_pass_by_hand_and_an_unreadable_file_is_a_row_without(
    world: World,
) -> None:
    found = world.extract(network=world.recogniser, layers=["stage3", "head.2"], request_id="plain")
    maps, ends = by_hand(world)
    assert dict(found.statuses) == {"ok": SUBJECTS * IMAGES, "corrupt": 1}
    assert [(one.name, list(one.shape), one.units) for one in found.layers] == [
        ("stage3", [8, 4, 4], 128),
        ("head.2", [10], 10),
    ]
    with opened(world.store, found.activations) as table:
        np.testing.assert_allclose(answers(table, "stage3")[:-1], maps.reshape(-1, 128), atol=1e-5)
        np.testing.assert_allclose(answers(table, "head.2")[:-1], ends, atol=1e-5)
        assert np.isnan(answers(table, "stage3")[-1]).all()
        manifest = table.manifest
    assert manifest.parents == (world.dataset.name, world.recogniser)
    assert {terms.licence for terms in manifest.terms} >= {"MIT", "Apache-2.0"}
    pooled = world.extract(network=world.recogniser, layers=["stage3"], pooling=pb.POOLING_MEAN)
    with opened(world.store, pooled.activations) as table:
        np.testing.assert_allclose(answers(table, "stage3")[:-1], maps.mean(axis=(2, 3)), atol=1e-5)
        assert (table.layers[0].shape, table.layers[0].pooling) == ((8, 4, 4), "mean")


def test_an_unknown_layer_is_refused_before_anything_is_stored_and_the_layers_are_named(
    world: World,
) -> None:
    with pytest.raises(InvalidInput, match=r"layers: 'avgpol' is no layer of .*there are .*stage3"):
        world.extract(network=world.recogniser, layers=["avgpol"])
    with pytest.raises(InvalidInput, match=r"layers: is empty"):
        world.extract(network=world.recogniser)
    with pytest.raises(InvalidInput, match=r"masks: head\.2 has no unit 10"):
        world.extract(network=world.recogniser, masks=[pb.UnitMask(layer="head.2", units=[10])])
    tone = LabelSource(attribute="skin_tone_band", annotator="ita")
    with pytest.raises(InvalidInput, match=r"annotations: is empty"):
        world.extract(network=world.recogniser, layers=["stem"], groups=[tone])
    race = LabelSource(attribute="race", annotator="given")
    with pytest.raises(PreconditionFailed, match="came with a race"):
        world.extract(network=world.recogniser, layers=["stem"], groups=[race])


def test_masks_change_what_a_forward_pass_with_them_changes_and_ones_change_nothing(world: World) -> None:
    maps, ends = by_hand(world)
    units = [0, 3, 5]
    with torch.no_grad():
        x = torch.from_numpy(maps.copy())
        x[:, units] = 0
        other = world.net.head(world.net.stage4(x)).numpy()
    cosines = (ends * other).sum(1) / np.linalg.norm(ends, axis=1) / np.linalg.norm(other, axis=1)
    found = world.extract(
        network=world.recogniser, masks=[pb.UnitMask(layer="stage3", units=units)], groups=[GIVEN]
    )
    with opened(world.store, found.activations) as table:
        (rows,) = table.groups(["masked_cosine"])
    assert rows["masked_cosine"].to_pylist()[:-1] == pytest.approx(cosines.tolist(), abs=1e-5)
    effects = {effect.group: effect for effect in found.effects}
    women = np.repeat(np.arange(SUBJECTS) % 2 == 0, IMAGES)
    assert effects[""].mean_cosine == pytest.approx(cosines.mean(), abs=1e-5)
    assert effects["gender=female by given"].mean_cosine == pytest.approx(cosines[women].mean(), abs=1e-5)
    assert effects["gender=female by given"].images == women.sum()
    ones = world.extract(network=world.recogniser, masks=[pb.UnitMask(layer="stage3", values=[1.0] * 128)])
    assert ones.effects[0].mean_cosine == pytest.approx(1, abs=1e-6)


def test_a_classifier_of_the_store_is_looked_into_and_silenced_units_leave_it_its_bias(
    world: World, tmp_path: Path
) -> None:
    torch.manual_seed(9)
    net = classifier_network.Classifier(classifier_network.ARCHITECTURES["resnet_small"]).eval()
    meaning = classifier_network.Meaning("gender", GENDERS, "none")
    classifier_network.save(net, meaning, tmp_path / classifier.FILE)
    model = registry.publish(
        world.store,
        "models/gender",
        {classifier.FILE: (tmp_path / classifier.FILE).read_bytes()},
        service="annotator",
        kind=classifier.KIND,
        description="small",
    ).name
    masks = [pb.UnitMask(layer="top.flatten", units=range(128))]
    found = world.extract(dataset=world.few.name, network=model, layers=["head.fc"], masks=masks)
    with torch.no_grad():
        images = np.stack([fitted(pixels, 64) for pixels in world.pixels()[: 2 * IMAGES]])
        logits = net(classifier_network.pixels(images, net.shape)).numpy()
    with opened(world.store, found.activations) as table:
        np.testing.assert_allclose(answers(table, "head.fc")[:-1], logits, atol=1e-5)
        (rows,) = table.groups(["perceived_gender.label", "perceived_gender.masked_label"])
    labels = rows["perceived_gender.label"].to_pylist()[:-1]
    assert labels == [GENDERS[int(row.argmax())] for row in logits]
    bias = GENDERS[int(net.head.fc.bias.detach().argmax())]
    assert rows["perceived_gender.masked_label"].to_pylist()[:-1] == [bias] * len(labels)
    assert model in table.manifest.parents


def test_the_half_of_clip_that_sees_pictures_says_through_its_layers_what_the_annotator_says(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_CLIP", f"local-dir:{clip_folder(tmp_path / 'clip')}")
    monkeypatch.setenv("FAIRLOOP_DEVICE", "cpu")
    network = Networks(world.store).get("clip_s1")
    pictures = world.pixels()[:3]
    (block,) = [layer for name, layer in network.layers.items() if name == "transformer.resblocks.0"]
    inside = look_inside(network, pictures, [block])
    expected = ClipS1.load().describe(pictures)
    for found, told in zip(inside.guesses(network), expected, strict=True):
        assert {name: guess.label for name, guess in found.items()} == {
            name: guess.label for name, guess in told.items()
        }
        for name, guess in found.items():
            assert guess.probabilities == pytest.approx(told[name].probabilities, abs=1e-5)
    # 32 pixels in patches of 8: sixteen places and the one that stands for all, 32 wide.
    assert block.shape == (17, 32)
    assert inside.activations[block.name].shape == (3, 17 * 32)


def test_each_unit_is_compared_between_groups_as_the_libraries_do_it_and_by_subject(world: World) -> None:
    found = world.extract(network=world.recogniser, layers=["head.2"], groups=[GIVEN], request_id="selective")
    _, ends = by_hand(world)
    women = np.repeat(np.arange(SUBJECTS) % 2 == 0, IMAGES)
    with opened(world.store, found.activations) as table:
        assert table.selectivity is not None
        rows = table.selectivity.to_pylist()
    assert [(row["unit"], row["group"], row["images"], row["rest"]) for row in rows] == [
        (unit, "female", 12, 12) for unit in range(10)
    ]
    for unit, row in enumerate(rows):
        assert row["auc"] == pytest.approx(roc_auc_score(women, ends[:, unit]), abs=1e-3)
        assert row["difference"] == pytest.approx(
            ends[women, unit].mean() - ends[~women, unit].mean(), abs=1e-5
        )
        # The means of people with two pictures each: Welch's interval over people is nearly this one.
        people = ends[:, unit].reshape(SUBJECTS, IMAGES).mean(axis=1)
        welch = ttest_ind(people[::2], people[1::2], equal_var=False).confidence_interval()
        width = row["difference_high"] - row["difference_low"]
        assert width == pytest.approx(welch.high - welch.low, rel=0.15)
        assert row["p_holm"] >= row["p"]
    best = max(rows, key=lambda row: abs(row["auc"] - 0.5))
    assert (found.selective[0].unit, found.selective[0].auc) == (best["unit"], pytest.approx(best["auc"]))
    assert len(found.selective) == 5
    assert "gender=female by given: 6 subjects" in list(found.warnings)
    # The command prints the same, and what masks did.
    by = "--network models/small --layer head.2 --by gender=given --mask stage3=0,3-5*0.5"
    lines = world.command(f"activations {world.dataset.name} {by}").splitlines()
    assert "note: gender=female by given: 6 subjects" in lines
    assert any(line.startswith("gender=male by given: mean cosine to the embedding") for line in lines)
    assert any(line.startswith(f"head.2 unit {best['unit']}, gender=female by given: AUC ") for line in lines)


def test_groups_may_be_those_of_an_annotation_table_of_the_same_dataset(world: World) -> None:
    request = AnnotateRequest(dataset=world.few.name, annotators=["ita"], cropped=True)
    made = world.client.annotate(request).result(120).annotations
    tone = LabelSource(attribute="skin_tone_band", annotator="ita")
    common = {"network": world.recogniser, "layers": ["head.2"], "groups": [tone], "annotations": made}
    found = world.extract(**common, dataset=world.few.name)
    manifest, rows = read_table(world.store, made, ANNOTATIONS)
    bands = Counter(rows["perceived_skin_tone_band.ita.label"].to_pylist())
    with opened(world.store, found.activations) as table:
        assert table.manifest.parents == (world.few.name, world.recogniser, made)
        versions = [["skin_tone_band", "ita", manifest.details["annotators"]["ita"]]]
        assert table.manifest.details["groups"] == versions
        assert table.selectivity is not None
        counts = {row["group"]: row["images"] for row in table.selectivity.to_pylist()}
    assert counts.items() <= bands.items()
    # Of so few people each band is named.
    named = {warning.split(" by ")[0] for warning in found.warnings if "=" in warning}
    assert named == {f"skin_tone_band={band}" for band in bands if band} != set()
    with pytest.raises(PreconditionFailed, match=f"{made} is not about {world.dataset.name}"):
        world.extract(**common)
    tone.version = "0" * 16
    with pytest.raises(PreconditionFailed, match=r"was made by ita .*, not 0000000000000000"):
        world.extract(**{**common, "groups": [tone]}, dataset=world.few.name)
    tone.annotator = "fairface"
    with pytest.raises(InvalidInput, match="has no skin_tone_band by fairface"):
        world.extract(**{**common, "groups": [tone]}, dataset=world.few.name)


def test_who_is_erased_leaves_the_table_too(world: World) -> None:
    found = world.extract(network=world.recogniser, layers=["head.1"], request_id="before an erasure")
    receipt = erasure.erase(world.store, subjects=["test:3"], reason="a test")
    assert found.activations in receipt.tables
    with opened(world.store, found.activations) as table:
        assert len(answers(table, "head.1")) == SUBJECTS * IMAGES + 1 - IMAGES
        (rows,) = table.groups(["subject_id"])
    assert "test:3" not in rows["subject_id"].to_pylist()
    assert not list(inspect(world.store, [found.activations]))
