"""Networks in files that may come from anybody: nothing of a file is run, and nothing is taken on trust.

Our own are safetensors whose metadata has one entry, which describes the network; published ones are state
dictionaries of PyTorch. The network is made first, on the device `meta`, which allocates nothing; the file
has to have its tensors, all of them and no others.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fairloop.errors import InvalidInput

N = TypeVar("N", bound=nn.Module)
M = TypeVar("M")

UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
)
"""What torch, and who takes apart what it read, raise for bytes that are something else."""


def write(net: nn.Module, path: Path, entry: str, description: Mapping[str, Any]) -> None:
    """Writes weights and description as safetensors; the same network gives the same bytes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    # One entry only: safetensors writes several in an order of its own.
    save_file(tensors, path, metadata={entry: json.dumps(description, sort_keys=True)})


def read(path: Path, entry: str, described: Callable[[str | None], M], made: Callable[[M], N]) -> tuple[N, M]:
    """The network of a file that `write` wrote, in evaluation mode, and what its description means.

    `described` says that, or raises InvalidInput; `made` makes the network. Raises InvalidInput, which
    names the file and the tensor, when something is missing, superfluous, of another type or shape, or
    not finite.
    """
    field = f"model {path.name}"
    try:
        with safe_open(path, framework="pt") as file:
            meaning = described((file.metadata() or {}).get(entry))
            with torch.device("meta"):
                net = made(meaning)
            expected = net.state_dict()
            check_names(field, set(expected), set(file.keys()))
            for name, tensor in expected.items():
                part = file.get_slice(name)
                kind = "I64" if tensor.dtype == torch.int64 else "F32"
                found = (part.get_dtype(), tuple(part.get_shape()))
                if found != (kind, tuple(tensor.shape)):
                    raise InvalidInput(field, f"{name} is {found}, not {(kind, tuple(tensor.shape))}")
            state = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError) as error:
        raise InvalidInput(field, f"is not a readable safetensors file: {error}") from error
    return filled(field, net, state), meaning


def state_dictionary(field: str, path: Path) -> dict[str, Tensor]:
    """Names and tensors of a file that PyTorch wrote; InvalidInput when there is anything else in it."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InvalidInput(field, f"is no file of tensors that torch reads: {error}") from error
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise InvalidInput(field, "is no state dictionary: names and tensors, and nothing else")
    return found


def fitting(field: str, name: str, found: Tensor, wanted: Tensor) -> Tensor:
    """A published tensor in the type that the network wants; InvalidInput when it is none of that shape."""
    plain = found.layout is torch.strided and not found.is_quantized
    alike = found.shape == wanted.shape and found.is_floating_point() == wanted.is_floating_point()
    if not (alike and plain):
        raise InvalidInput(
            field, f"{name} is {found.dtype} {tuple(found.shape)}; here it is {tuple(wanted.shape)}"
        )
    return found.to(wanted.dtype).contiguous()


def filled(field: str, net: N, state: Mapping[str, Tensor]) -> N:
    """A network made on the device `meta`, with these tensors, in evaluation mode.

    Raises InvalidInput that names the first tensor with values that no network has.
    """
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all() or (name.endswith("running_var") and (tensor < 0).any()):
            raise InvalidInput(field, f"{name} holds values that are not finite, or a negative variance")
    net.load_state_dict(state, assign=True)
    net.to(memory_format=torch.channels_last)
    return net.eval()


def check_names(field: str, expected: set[str], found: set[str]) -> None:
    """InvalidInput that names the first tensor that is missing or superfluous."""
    for kind, names in (("lacks", expected - found), ("has the unknown", found - expected)):
        if names:
            raise InvalidInput(field, f"{kind} tensor {min(names)} (and {len(names) - 1} more)")
