"""The text encoder of the demo's base learns which captions go with which faces.

With random weights all captions look much alike to it, and a UNet takes long to
tell a word. So it is taught as CLIP is (Radford et al. 2021, arXiv 2103.00020): of
a batch's captions each picture is to find its own, and each caption its own
picture. What sees the pictures is small, and is thrown away afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BATCH, RATE, WARM_UP = 128, 2e-3, 0.1
SEEN = 8
"""Side of the pictures that it is taught with."""
WIDTH = 64
FIRST_SCALE, MOST_SCALE = 1 / 0.07, 100.0
"""What cosines are multiplied with: CLIP's own start and bound."""


def teach_text(folder: Path, pixels: Tensor, captions: Sequence[str], seed: int, steps: int) -> None:
    """Trains the text encoder of a model's folder on pictures in [−1, 1] and their captions.

    Captions are drawn equally often, whatever their share of the pictures: what few
    pictures show is to be told apart as well.
    """
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    said = sorted(set(captions))
    tokens = tokenizer(said, padding="max_length", truncation=True, return_tensors="pt").input_ids
    number = {caption: place for place, caption in enumerate(said)}
    of_picture = torch.tensor([number[caption] for caption in captions])
    small = torch.nn.functional.adaptive_avg_pool2d(pixels, SEEN).flatten(1)
    sees = torch.nn.Sequential(
        torch.nn.Linear(small.shape[1], 2 * WIDTH), torch.nn.GELU(), torch.nn.Linear(2 * WIDTH, WIDTH)
    )
    says = torch.nn.Linear(encoder.config.hidden_size, WIDTH, bias=False)
    scale = torch.nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
    moving = [*encoder.parameters(), *sees.parameters(), *says.parameters(), scale]
    optimiser = torch.optim.AdamW(moving, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=WARM_UP)
    equal = 1 / torch.bincount(of_picture)[of_picture].double()
    encoder.train()
    for step in range(steps):
        places = torch.multinomial(equal, BATCH, replacement=True)
        used, own = of_picture[places].unique(return_inverse=True)
        # The mean over all positions: a UNet attends to all of them.
        texts = torch.nn.functional.normalize(says(encoder(tokens[used])[0].mean(1)), dim=1)[own]
        pictures = torch.nn.functional.normalize(sees(small[places]), dim=1)
        scores = scale.exp().clamp(max=MOST_SCALE) * pictures @ texts.T
        same = (own[:, None] == own[None, :]).float()
        wanted = same / same.sum(1, keepdim=True)
        loss = torch.nn.functional.cross_entropy(scores, wanted)
        loss = (loss + torch.nn.functional.cross_entropy(scores.T, wanted)) / 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"  text encoder: step {step + 1} of {steps}, loss {loss.item():.2f}", flush=True)
    encoder.eval()
    encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)
