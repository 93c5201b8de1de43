"""Three layers, one direction (design §1), read from the source and from a fresh interpreter."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("annotator", "generator", "metrics", "recognizer")
WEIGHTY = {
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "onnxruntime",
    "onnx",
    "dlib",
    "cv2",
    "sklearn",
}


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, also inside functions."""
    package = path.relative_to(ROOT).parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


def files(*parts: str) -> list[Path]:
    return sorted(ROOT.joinpath(*parts).rglob("*.py"))


def breaches(paths: list[Path], forbidden: set[str]) -> list[str]:
    found = []
    for path in paths:
        for name in sorted(imported(path)):
            if any(name == word or name.startswith(word + ".") for word in forbidden):
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    return found


def test_fairloop_imports_neither_services_nor_flows_nor_what_needs_weights() -> None:
    assert breaches(files("fairloop"), {"services", "flows", "deploy", "tests", "prefect"} | WEIGHTY) == []


def test_flows_import_no_service_and_nothing_that_needs_weights() -> None:
    assert breaches(files("flows"), {"services", "tests"} | WEIGHTY) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = {f"services.{other}" for other in SERVICES if other != service}
    assert breaches(files("services", service), others | {"flows", "deploy", "tests", "prefect"}) == []


def test_only_the_store_speaks_s3() -> None:
    paths = [path for path in files("fairloop") if path != ROOT / "fairloop" / "store.py"]
    assert breaches(paths, {"minio", "boto3", "s3fs"}) == []


def test_importing_fairloop_takes_under_a_second_of_one_core_and_no_torch() -> None:
    code = (
        "import json, sys, time; started = time.process_time(); import fairloop, fairloop.cli;"
        "print(json.dumps([time.process_time() - started, sorted(sys.modules)]))"
    )
    took, modules = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    assert took < 1
    assert WEIGHTY.isdisjoint(modules)


def test_no_module_of_fairloop_loads_what_needs_weights() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files("fairloop")]
    names = [name.removesuffix(".__init__") for name in names]
    code = (
        f"import importlib, json, sys; [importlib.import_module(name) for name in {names!r}];"
        "print(json.dumps(sorted(sys.modules)))"
    )
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    assert WEIGHTY.isdisjoint(modules)
    assert "services" not in modules


def test_no_file_of_the_product_is_longer_than_400_lines() -> None:
    paths = [*files("fairloop"), *files("services"), *files("flows"), *files("deploy")]
    written = [path for path in paths if "v1" not in path.parts]
    assert [str(path) for path in written if len(path.read_text().splitlines()) > 400] == []
