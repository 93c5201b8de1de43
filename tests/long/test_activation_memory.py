"""100,000 images × 512 units never sit in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.annotator

ROOT = Path(__file__).resolve().parents[2]


def test_a_table_of_100_000_images_and_512_units_takes_a_fraction_of_its_size() -> None:
    command = [sys.executable, "-m", "tests.support.activation_memory", "100000"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    units, mean, largest, grown = (float(word) for word in ran.stdout.split())
    assert (units, mean) == (512, pytest.approx(0.5, abs=0.001))
    assert largest < 9 * 2**20
    assert grown < 100_000 * 512 * 4 / 4
