"""`python -m deploy.k8s [FOLDER]`: builds every overlay and validates it strictly.

With a folder, writes each overlay there as one file, for other tools to look at.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from deploy.k8s.kubectl import KUBERNETES
from deploy.k8s.manifests import OVERLAYS, complaints, overlay
from fairloop.errors import FairloopError


def main() -> int:
    """1 when an overlay does not build or is refused."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="write the overlays there")
    folder = parser.parse_args().folder
    wrong = 0
    for name in OVERLAYS:
        begun = time.monotonic()
        try:
            manifests = overlay(name)
        except FairloopError as error:
            print(f"{name}: {error}", file=sys.stderr)
            wrong += 1
            continue
        found = complaints(manifests)
        wrong += len(found)
        for line in found:
            print(f"{name}: {line}", file=sys.stderr)
        kinds = Counter(manifest["kind"] for manifest in manifests)
        shown = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        print(f"{name}: Kubernetes {KUBERNETES}, {time.monotonic() - begun:.1f} s: {shown}")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump_all(manifests, sort_keys=False)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    print(f"{wrong} complaints" if wrong else "next: kubectl apply -k deploy/k8s/overlays/cpu")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
