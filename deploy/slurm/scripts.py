"""Fills in the batch script of a training."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template

from fairloop.errors import InvalidInput
from flows.training_job import TrainingResources, job_name, line, service_of

FOLDER = Path(__file__).resolve().parent
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:,=-]*")


def script(
    operation: str,
    resources: TrainingResources,
    checkout: str,
    venv: str,
    environment: str,
    account: str = "",
    partition: str = "",
) -> str:
    """The whole script. `InvalidInput` names a word that SLURM could take for more than one."""
    directives = []
    for option, value in (("account", account), ("partition", partition)):
        if value:
            if not _WORD.fullmatch(value):
                raise InvalidInput(option, f"{value!r} is not one word of letters, digits and _ . : , = -")
            directives.append(f"#SBATCH --{option}={value}")
    if resources.gpus:
        directives.append(f"#SBATCH --gpus-per-node={resources.gpus}")
    minutes = max(3, round(resources.hours * 60))
    values = {
        "operation": operation,
        "name": job_name(operation),
        "nodes": resources.nodes,
        "cpus": resources.cpus,
        "memory_gib": resources.memory_gib,
        "time": f"{minutes // 60:02}:{minutes % 60:02}:00",
        "threads": max(1, resources.cpus // max(resources.gpus, 1)),
        "directives": "\n".join(directives) or "# No account, partition or GPU is asked for.",
        "environment": shlex.quote(environment),
        "venv": shlex.quote(venv),
        "checkout": shlex.quote(checkout),
        # The host is known when the nodes are; the script asks SLURM for it.
        "command": line(operation, resources, "HEAD").replace("HEAD:", '"$head":'),
    }
    template = Template((FOLDER / f"{service_of(operation)}.sbatch").read_text(encoding="utf-8"))
    return template.substitute(values)
