"""CLIP rubrics on a tiny network in open_clip's format: probabilities by hand, wrong names explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput, NotFound
from fairloop.taxonomy import ATTRIBUTES, vocabulary
from services.annotator import registry
from services.annotator.clip import Clip, ClipS1
from services.annotator.clip_network import ClipNetwork
from services.annotator.face import Face
from services.annotator.rubric import read_rubric, shipped
from tests.support.tiny_annotators import CLIP_CONFIG, clip_folder

# seeds.md, 2.5
S1_GENDERS = ["a photo of a man", "a photo of a woman"]
S1_TONES = [
    "a person with very light skin",
    "a person with light skin",
    "a person with light beige skin",
    "a person with beige skin",
    "a person with light brown skin",
    "a person with medium brown skin",
    "a person with dark brown skin",
    "a person with very dark brown skin",
    "a person with almost black skin",
    "a person with very dark black skin",
]
MEAN, DEVIATION = np.array([0.481, 0.458, 0.408]), np.array([0.269, 0.261, 0.276])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def network(folder: Path) -> ClipNetwork:
    torch.set_num_threads(1)
    return ClipNetwork(f"local-dir:{folder}")


def pictures(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(5)
    return [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((48, 48)), dtype=np.uint8
        )
        for _ in range(count)
    ]


def faces(count: int) -> list[Face]:
    return [Face(one, (12, 12, 36, 36), np.zeros((5, 2), np.float32)) for one in pictures(count)]


def by_hand(folder: Path, pixels: NDArray[np.uint8], prompts: list[str]) -> NDArray[np.float64]:
    """softmax(100·cos) of one picture, from the module itself and from numpy."""
    module = open_clip.CLIP(**CLIP_CONFIG)
    open_clip.load_checkpoint(module, str(folder / "open_clip_model.safetensors"))
    module.eval()
    resized = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
    scaled = (np.asarray(resized) / 255 - MEAN) / DEVIATION
    with torch.no_grad():
        image = module.encode_image(torch.tensor(scaled.transpose(2, 0, 1)[None], dtype=torch.float32))
        text = module.encode_text(open_clip.tokenize(prompts))
    a, b = image.numpy().astype(np.float64)[0], text.numpy().astype(np.float64)
    cosines = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
    powers = np.exp(100 * (cosines - cosines.max()))
    result: NDArray[np.float64] = powers / powers.sum()
    return result


def test_s1s_probabilities_are_the_softmax_of_100_cosines_over_its_prompts(
    folder: Path, network: ClipNetwork
) -> None:
    annotator = ClipS1(network, ClipS1.rubric())
    shares = []
    for face, answer in zip(faces(6), annotator.annotate(faces(6)), strict=True):
        man, woman = by_hand(folder, face.pixels, S1_GENDERS)
        tones = by_hand(folder, face.pixels, S1_TONES)
        assert answer["gender"].probabilities == pytest.approx((woman, man), abs=1e-4)
        assert answer["gender"].label == ("male" if man >= woman else "female")
        assert answer["skin_tone"].probabilities == pytest.approx(tones, abs=1e-4)
        assert answer["skin_tone"].label == str(int(np.argmax(tones)) + 1)
        shares.append(answer["skin_tone"].probabilities)
    assert np.ptp(shares, axis=0).max() > 1e-3  # a network that sees nothing would prove nothing


def test_the_shipped_rubric_of_s1_is_its_prompts_in_its_order() -> None:
    gender, tone = shipped("s1").attributes
    assert [label.prompts for label in gender.labels] == [(prompt,) for prompt in S1_GENDERS]
    assert [label.prompts for label in tone.labels] == [(prompt,) for prompt in S1_TONES]
    # Index 0 is man there, and female in AI-Face.
    assert [label.value for label in gender.labels] == ["male", "female"]
    for question in (gender, tone):
        source = vocabulary("clip_s1", question.attribute)
        assert [(label.prompts[0], label.value) for label in question.labels] == list(
            zip(source.labels, source.values, strict=True)
        )


def test_several_phrases_of_a_label_count_as_their_mean(folder: Path, network: ClipNetwork) -> None:
    annotator = Clip(network, shipped("general"))
    (answer,) = annotator.describe(pictures(1))
    text = {
        label.value: np.stack([network.text_features([prompt])[0] for prompt in label.prompts]).mean(axis=0)
        for label in shipped("general").attributes[0].labels
    }
    image = network.image_features(pictures(1))[0]
    scores = [100 * float(image @ (text[v] / np.linalg.norm(text[v]))) for v in ATTRIBUTES["gender"]]
    expected = np.exp(scores) / np.exp(scores).sum()
    assert answer["gender"].probabilities == pytest.approx(expected, abs=1e-4)
    assert {name: len(guess.probabilities) for name, guess in answer.items()} == {
        "gender": 2,
        "race": 7,
        "age": 9,
        "skin_tone": 10,
    }


def test_the_answer_for_a_face_does_not_depend_on_the_others_and_a_face_is_seen_without_its_picture(
    network: ClipNetwork,
) -> None:
    annotator = Clip(network, shipped("general"))
    together, alone = annotator.annotate(faces(3)), [annotator.annotate([face])[0] for face in faces(3)]
    for one, other in zip(together, alone, strict=True):
        for attribute in annotator.attributes:
            assert one[attribute].probabilities == pytest.approx(other[attribute].probabilities, abs=1e-4)
    (face, *_) = faces(1)
    changed = face.pixels.copy()
    changed[:3] = 0  # outside the face and its margin
    (before,), (after,) = (
        annotator.annotate([Face(p, face.box, face.landmarks)]) for p in (face.pixels, changed)
    )
    assert before == after
    assert annotator.annotate([]) == []


def test_the_version_stands_for_weights_and_rubric(network: ClipNetwork, tmp_path: Path) -> None:
    other = ClipNetwork(f"local-dir:{clip_folder(tmp_path, seed=1)}")
    versions = {
        Clip(network, shipped("general")).version,
        Clip(network, shipped("s1")).version,
        Clip(other, shipped("general")).version,
    }
    assert len(versions) == 3


def test_a_checkpoint_is_read_with_its_architecture_and_a_pickle_in_it_is_not_run(
    folder: Path, network: ClipNetwork, tmp_path: Path
) -> None:
    import json

    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(CLIP_CONFIG))
    open_clip.add_model_config(tmp_path)
    found = ClipNetwork(f"tiny-for-tests:{folder / 'open_clip_model.safetensors'}")
    assert found.digest == network.digest

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"logit_scale": Evil()}}, tmp_path / "evil.pt")
    with pytest.raises(InvalidInput, match=r"FAIRLOOP_CLIP: tiny-for-tests:.*evil\.pt cannot be loaded"):
        ClipNetwork(f"tiny-for-tests:{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "ran").exists()


def test_a_wrong_name_or_absent_weights_end_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match=r"'ViT-B-33' is no architecture of open_clip; it has .*ViT-B-32"):
        ClipNetwork("ViT-B-33:openai")
    with pytest.raises(InvalidInput, match="names no weights"):
        ClipNetwork("ViT-B-32")
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    monkeypatch.delenv("FAIRLOOP_CLIP", raising=False)
    with pytest.raises(NotFound) as caught:
        ClipS1.load()
    for part in ("open_clip_model.safetensors", "huggingface.co/timm", "fairloop models put clip-vit-b-32"):
        assert part in str(caught.value)


def test_the_network_and_rubric_of_the_environment_are_used_and_their_terms_unknown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rubric = tmp_path / "mine.toml"
    rubric.write_text(
        'schema = "fairloop.rubric/1"\nname = "mine"\nview = "image"\n[[attributes]]\nattribute = "gender"\n'
        'labels = [{ value = "male", prompts = ["he"] }, { value = "female", prompts = ["she"] }]\n'
    )
    monkeypatch.setenv("FAIRLOOP_CLIP", f"local-dir:{folder}")
    monkeypatch.setenv("FAIRLOOP_CLIP_RUBRIC", str(rubric))
    assert Clip.load().attributes == ("gender",)
    assert "clip-vit-b-32" not in registry.weights("clip")
    assert registry.weights("clip")[-1] == "named-by-FAIRLOOP_CLIP"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("female", "femal"), "each of female, male stands in it once"),
        (('"gender"', '"hair"'), "attribute 'hair' is not known"),
        (('"image"', '"nose"'), "view: Input should be 'face' or 'image'"),
        (("fairloop.rubric/1", "fairloop.rubric/9"), "this version reads fairloop.rubric/1"),
        (("[[attributes]]", "[[attributes"), "is not TOML"),
        (('["she"]', "[]"), "at least 1 item"),
    ],
)
def test_a_wrong_rubric_is_refused_with_file_and_field(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    text = (
        'schema = "fairloop.rubric/1"\nname = "mine"\nview = "image"\n[[attributes]]\nattribute = "gender"\n'
        'labels = [{ value = "male", prompts = ["he"] }, { value = "female", prompts = ["she"] }]\n'
    )
    (tmp_path / "mine.toml").write_text(text.replace(*change, 1))
    with pytest.raises(InvalidInput, match=r"mine\.toml") as caught:
        read_rubric(tmp_path / "mine.toml")
    assert reason in str(caught.value)


def test_a_phrase_longer_than_the_network_reads_is_refused_and_never_cut(network: ClipNetwork) -> None:
    with pytest.raises(InvalidInput, match=r"prompt: .* has 102 tokens; this network reads 77"):
        network.text_features(["skin " * 100])
