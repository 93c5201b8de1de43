"""Where a server computes, and what the bytes of its images hang on."""

from __future__ import annotations

import pytest
import torch

from fairloop.errors import PreconditionFailed
from fairloop.serving.settings import ServerSettings
from services.generator.diffusion.computing import computing_of
from services.generator.profile import differences, profile

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


@NO_CUDA
def test_cuda_on_a_machine_without_it_is_an_error_and_no_silent_cpu() -> None:
    with pytest.raises(PreconditionFailed, match="FAIRLOOP_DEVICE is cuda, and torch sees no CUDA device"):
        computing_of(ServerSettings(device="cuda"))


@NO_CUDA
def test_auto_is_the_cpu_in_single_precision_where_there_is_no_cuda() -> None:
    assert (computing_of(ServerSettings()).device, computing_of(ServerSettings()).dtype) == ("cpu", "float32")
    assert computing_of(ServerSettings(dtype="bfloat16")).dtype == "bfloat16"


def test_a_profile_tells_device_type_format_threads_batch_and_versions() -> None:
    found = profile(batch=4, libraries=("diffusers",))
    assert found["device"] == "cpu"
    assert found["memory_format"] == "contiguous"
    assert found["threads"] == torch.get_num_threads()
    assert found["batch"] == 4
    assert found["torch"] == torch.__version__.partition("+")[0]
    assert "threads" not in profile(), "what hangs on neither threads nor batch states neither"


def test_two_profiles_differ_line_by_line() -> None:
    now = profile(batch=4)
    assert differences(now, now) == []
    then = {key: value for key, value in now.items() if key != "zlib"} | {"batch": 8}
    assert differences(then, now) == ["batch: 8 then, 4 now", f"zlib: not recorded then, {now['zlib']} now"]
