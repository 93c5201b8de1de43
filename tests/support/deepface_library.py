"""The library deepface itself, on its ONNX engine and on weights in a folder."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


@contextlib.contextmanager
def deepface_library(home: Path) -> Iterator[Any]:
    """`deepface.DeepFace` on the files in `home`/.deepface/weights; nothing is downloaded."""
    uploads = types.ModuleType("werkzeug.datastructures")
    # The library only asks whether a picture is one of these, and does not declare the package that has it.
    uploads.FileStorage = type("FileStorage", (), {})  # type: ignore[attr-defined]
    stands_in = {"werkzeug": types.ModuleType("werkzeug"), "werkzeug.datastructures": uploads}
    there = importlib.util.find_spec("werkzeug") is not None
    variables = {"DEEPFACE_HOME": str(home), "DEEPFACE_BACKEND_ENGINE": "onnx"}
    with mock.patch.dict(os.environ, variables), mock.patch.dict(sys.modules, {} if there else stands_in):
        library = importlib.import_module("deepface.DeepFace")
        # It keeps models by name for as long as the process lives, wherever their files were.
        vars(importlib.import_module("deepface.modules.modeling")).pop("cached_models", None)
        yield library
