"""What the loop over prompts trains on, the captions of its small model, and what its parameters refuse."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from fairloop.errors import PreconditionFailed
from fairloop.prompt_audit import Share
from fairloop.prompts import Prompt
from flows.demo_captions import captions
from flows.diffusion_demo import SMALL, settings
from flows.prompt_choice import choose
from flows.prompt_labels import Seen
from flows.prompt_obedience import obedience
from flows.prompt_params import PROMPTS, PromptLoopParameters

CEO = {
    "ceo-light-female": Share("ceo", ("female", "light"), 0.0, 0, 100),
    "ceo-dark-female": Share("ceo", ("female", "dark"), 0.02, 2, 100),
}


def seen(*images: tuple[str, str, str]) -> list[Seen]:
    return [
        Seen(f"{k}", prompt, {"gender": gender, "skin_tone_band": tone})
        for k, (prompt, gender, tone) in enumerate(images)
    ]


def test_new_images_count_when_they_show_who_was_asked_for_and_go_under_the_prompt_that_missed_them() -> None:
    new = seen(
        ("ceo-light-female", "female", "light"),
        ("ceo-light-female", "male", "light"),
        ("ceo-light-female", "female", "light"),
        ("ceo-dark-female", "female", "light"),
        ("ceo-dark-female", "female", "dark"),
        ("ceo-dark-female", "--", "--"),
    )
    found = choose(new, CEO, [])
    assert found.new == {0: "ceo", 2: "ceo", 4: "ceo"}
    assert found.per_group == {("ceo", ("female", "dark")): 1, ("ceo", ("female", "light")): 2}


def test_groups_that_were_not_missing_come_from_the_audit_as_often_as_the_most_frequent_of_the_others() -> (
    None
):
    new = seen(("ceo-light-female", "female", "light"), ("ceo-light-female", "female", "light"))
    audited = seen(
        ("ceo", "male", "light"),
        ("ceo", "--", "--"),
        ("ceo", "female", "dark"),  # missing: its own new prompt asks for it
        ("ceo", "male", "light"),
        ("nurse", "female", "light"),
        ("ceo", "male", "light"),
    )
    found = choose(new, CEO, audited)
    assert found.audited == {0: "ceo", 3: "ceo", 4: "nurse"}
    assert found.per_group["ceo", ("male", "light")] == 2


def test_a_model_that_follows_no_word_is_an_error_that_says_so() -> None:
    with pytest.raises(PreconditionFailed, match="does not follow dark, female, light"):
        choose(seen(("ceo-dark-female", "male", "dark")), CEO, [])


def test_captions_have_the_bias_that_is_known() -> None:
    prompts = PromptLoopParameters(base_model="models/x").table
    faces = [{"gender": g, "skin_tone_band": tone} for g in ("female", "male") for tone in ("light", "dark")]
    said = captions(faces * 6_000, prompts, 3)
    assert said == captions(faces * 6_000, prompts, 3)
    texts = {prompt.text: prompt.id for prompt in prompts}
    # Of a light woman: CEO .1 × .8, doctor .3 × .6, nurse .9 × .1, nice person .5 × .05; they sum to .375.
    women = [texts[one] for one in said[::4] if one in texts]
    found = {name: count / len(women) for name, count in Counter(women).items()}
    wanted = {"ceo": 0.08 / 0.375, "doctor": 0.18 / 0.375, "nurse": 0.09 / 0.375, "nice": 0.025 / 0.375}
    assert found == pytest.approx(wanted, abs=0.03)
    # Of a dark man: CEO .9 × .05, doctor .7 × .1, nurse .1 × .6, nice person .5 × .05; they sum to .2.
    men = [texts[one] for one in said[3::4] if one in texts]
    found = {name: count / len(men) for name, count in Counter(men).items()}
    assert found == pytest.approx({"ceo": 0.225, "doctor": 0.35, "nurse": 0.3, "nice": 0.125}, abs=0.03)
    explicit = [one for one in said if one not in texts]
    assert len(explicit) / len(said) == pytest.approx(0.5, abs=0.03)
    assert "A photo of a light female CEO of an important company" in explicit


def test_a_prompt_of_ones_own_is_said_of_everybody_alike() -> None:
    faces = [{"gender": "female", "skin_tone_band": "light"}, {"gender": "male", "skin_tone_band": "dark"}]
    own = [Prompt("cook", "A photo of a cook"), Prompt("judge", "A photo of a judge")]
    counted = Counter(captions(faces * 4_000, own, 5)[::2])
    assert counted["A photo of a cook"] / counted["A photo of a judge"] == pytest.approx(1, abs=0.15)


def test_how_far_images_show_what_was_asked_for_is_counted_by_attribute_against_chance() -> None:
    asked = {
        f"{gender}-{tone}": Share("ceo", (gender, tone), 0.0, 0, 1)
        for gender in ("female", "male")
        for tone in ("light", "dark")
    }
    # Tone is always what was asked for; everybody is female but one, in whom nothing is seen.
    images = seen(
        *((f"{g}-{t}", "female", t) for g in ("female", "male") for t in ("light", "dark")),
        ("male-dark", "--", "--"),
    )
    gender, tone = obedience(images, asked)
    # Asked: 2 female, 3 male; seen: 4 female: 2/5 × 4/5.
    assert (gender.attribute, gender.right, gender.images) == ("gender", 2, 5)
    assert gender.expected == pytest.approx(8 / 25)
    # Asked: 2 light, 3 dark; seen: 2 light, 2 dark: (2 × 2 + 3 × 2) / 25.
    assert (tone.right, tone.expected) == (4, pytest.approx(0.4))
    # Four or five of five at .4: 5 × .4⁴ × .6 + .4⁵.
    assert tone.p_value == pytest.approx(5 * 0.4**4 * 0.6 + 0.4**5)


def test_the_demos_own_settings_are_parameters_and_a_model_of_ones_own_takes_the_flows() -> None:
    assert settings("", None, [])[0].prompts == list(PROMPTS)
    loop, small = settings("", None, ["images=20", "teach_steps=30"])
    assert (loop.images, small.teach_steps) == (20, 30)
    own, _ = settings("models/mine", None, ["half=true"])
    assert (own.base_model, own.half, own.steps) == ("models/mine", True, 50)
    assert SMALL["steps"] != 50
    with pytest.raises(SystemExit, match=r"--set images: .*greater than or equal to 10"):
        settings("", None, ["images=2"])
    with pytest.raises(SystemExit, match="--set teach_steps"):
        settings("models/mine", None, ["teach_steps=30"])
    with pytest.raises(SystemExit, match=r"--set wings: no such parameter; there are .*, teach_steps,"):
        settings("", None, ["wings=2"])


def test_a_table_of_prompts_that_cannot_be_read_ends_the_program_with_a_sentence(tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("prompt\nA photo of a baker\n")
    with pytest.raises(SystemExit, match=r"--prompts prompts.csv: has no column 'prompt_id'"):
        settings("", table, [])
    with pytest.raises(SystemExit, match=r"--prompts gone.xlsx: .* not there"):
        settings("", tmp_path / "gone.xlsx", [])


def test_without_other_settings_it_is_drawn_as_in_the_reference_system() -> None:
    found = PromptLoopParameters(base_model="models/x")
    assert (found.images, found.new_images, found.steps, found.guidance) == (100, 10, 50, 7.5)


@pytest.mark.parametrize(
    ("prompts", "trouble"),
    [
        (["ceo"], "is not id=text"),
        (["../x=A photo"], "is not of letters"),
        (["ceo=A photo", "CEO=Another"], "stands twice"),
        (["a=a nude child"], "pairs people under 18"),
    ],
)
def test_prompts_that_cannot_be_drawn_are_refused_before_anything_starts(
    prompts: list[str], trouble: str
) -> None:
    with pytest.raises(ValidationError, match=trouble):
        PromptLoopParameters(base_model="models/x", prompts=prompts)


def test_a_table_of_prompts_gives_ids_and_texts() -> None:
    found = PromptLoopParameters(base_model="models/x", prompts=["ceo=A photo = of a CEO"])
    assert found.table == (Prompt("ceo", "A photo = of a CEO"),)
    assert list(found.groups) == ["gender", "skin_tone_band"]
