"""`python -m deploy.slurm operations/{id} --gpus 4 > train.sbatch`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.slurm.scripts import script
from fairloop.errors import FairloopError
from flows.training_job import TrainingResources


def main() -> None:
    """Prints the script of one training."""
    parser = argparse.ArgumentParser(prog="python -m deploy.slurm", description=__doc__)
    parser.add_argument("operation", help="operations/{id}, as FineTune answered it")
    for name, field in TrainingResources.model_fields.items():
        kind = float if field.annotation is float else int
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=field.default, help=field.description
        )
    parser.add_argument("--checkout", default=str(Path.cwd()), help="the checkout on the cluster [here]")
    parser.add_argument("--venv", default=".venv", help="its virtual environment [%(default)s]")
    parser.add_argument(
        "--environment", default=".fairloop/environment", help="file of variables [%(default)s]"
    )
    parser.add_argument("--account", default="", help="SLURM account")
    parser.add_argument("--partition", default="", help="SLURM partition")
    given = vars(parser.parse_args())
    resources = TrainingResources(**{name: given.pop(name) for name in TrainingResources.model_fields})
    try:
        print(script(resources=resources, **given), end="")
    except FairloopError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
