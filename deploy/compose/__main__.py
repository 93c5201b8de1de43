"""`python -m deploy.compose`: has Docker Compose itself read the file under each profile; needs no engine."""

from __future__ import annotations

import subprocess
import sys

from deploy.compose.program import FOLDER, PROFILES, complaints, docker_compose, rendered, variables
from fairloop.errors import FairloopError


def main() -> int:
    """1 when a profile is refused."""
    environment = variables((FOLDER / ".env.example").read_text(encoding="utf-8"))
    try:
        version = subprocess.run(
            [str(docker_compose()), "version", "--short"], capture_output=True, text=True, check=True
        ).stdout.strip()
        found = {profile: rendered(profile, environment) for profile in PROFILES}
    except FairloopError as error:
        sys.exit(f"error: {error}")
    wrong = 0
    for profile, made in found.items():
        print(f"{profile}: Docker Compose {version}: {', '.join(made['services'])}")
        for line in complaints(made):
            print(f"{profile}: {line}", file=sys.stderr)
            wrong += 1
    print(f"{wrong} complaints" if wrong else "next: docker compose --profile cpu up --detach --wait")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
