"""Generates `fairloop/v1` from `protos/`.

    python protos/generate.py                    write the stubs
    python protos/generate.py --check            fail when the committed stubs are not what the protos give
    python protos/generate.py --google FOLDER    lay out the Google protos that ours import (for buf)

googleapis-common-protos ships the long-running operations' proto under another
file name than the one it registers as; it is copied under its canonical name so
that importing it resolves to the module which that package installs.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
ROOT = PROTOS.parent
COMMON = Path(str(files("google") / "longrunning")).parent.parent
GOOGLE = {
    "google/api/annotations.proto": "google/api/annotations.proto",
    "google/api/client.proto": "google/api/client.proto",
    "google/api/field_behavior.proto": "google/api/field_behavior.proto",
    "google/api/http.proto": "google/api/http.proto",
    "google/api/launch_stage.proto": "google/api/launch_stage.proto",
    "google/longrunning/operations.proto": "google/longrunning/operations_proto.proto",
    "google/rpc/status.proto": "google/rpc/status.proto",
}


def google_protos(folder: Path) -> None:
    """Copies the Google protos that ours import, and what those import, under their canonical names."""
    for name, shipped in GOOGLE.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(COMMON / shipped, target)


def generate(output: Path) -> None:
    """Writes the `_pb2.py`, `_pb2.pyi` and `_pb2_grpc.py` files below `output/fairloop/v1`."""
    protos = sorted(str(path) for path in (PROTOS / "fairloop" / "v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as google:
        google_protos(Path(google))
        code = protoc.main(
            [
                "protoc",
                f"-I{PROTOS}",
                f"-I{google}",
                f"-I{files('grpc_tools') / '_proto'}",
                f"--python_out={output}",
                f"--pyi_out={output}",
                f"--grpc_python_out={output}",
                *protos,
            ]
        )
    if code:
        raise SystemExit(code)


def stale() -> list[str]:
    """Names of committed stubs that are missing, left over, or differ from what the protos give."""
    committed = ROOT / "fairloop" / "v1"
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch, "fairloop", "v1")
        names = {path.name for folder in (committed, fresh) for path in folder.glob("*_pb2*.py*")}
        _, different, missing = filecmp.cmpfiles(committed, fresh, sorted(names), shallow=False)
    return sorted(different + missing)


def main() -> None:
    parser = argparse.ArgumentParser(description="Generates fairloop/v1 from protos/.")
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed stubs, write nothing"
    )
    parser.add_argument("--google", type=Path, metavar="FOLDER", help="only lay out the Google protos there")
    arguments = parser.parse_args()
    if arguments.google:
        google_protos(arguments.google)
    elif arguments.check:
        if names := stale():
            sys.exit(f"fairloop/v1 is not what protos/ gives ({', '.join(names)}); run `make protos`")
        print("stubs are in sync with protos/")
    else:
        generate(ROOT)


if __name__ == "__main__":
    main()
