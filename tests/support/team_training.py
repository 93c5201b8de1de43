"""One process of a training that several share: `python -m tests.support.team_training IMAGES MODEL`.

IMAGES is an npz with images, labels and cells, MODEL where process 0 writes the
trained state. The settings come as JSON in the variable TEAM_CONFIG.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import torch

from services.recognizer import fit, worker
from services.recognizer.config import Config
from services.recognizer.team import join

TUPLES = ("widths", "depths", "frozen")


def config_of(text: str) -> Config:
    values = json.loads(text)
    return Config(**{k: tuple(v) if k in TUPLES else v for k, v in values.items()})


def main() -> None:
    torch.set_num_threads(1)
    team = join()
    if team.rank:
        worker.work(team)
        team.close()
        return
    config = config_of(os.environ["TEAM_CONFIG"])
    with np.load(sys.argv[1]) as data:
        images, labels, cells = data["images"], data["labels"], data["cells"].tolist()
    worker.tell(team, config, labels, cells, None, None)
    stops = int(os.environ.get("TEAM_STOP", "1000000"))
    result = fit.fit(
        images,
        labels,
        config,
        cells=cells,
        judge=lambda net, loss: {"tmr": 0.5},
        should_stop=iter(step >= stops for step in range(1_000_001)).__next__,
        team=team,
    )
    team.close()
    torch.save({"net": result.net.state_dict(), "losses": result.losses.tolist()}, sys.argv[2])


if __name__ == "__main__":
    main()
