"""What torchrun or accelerate's launcher says of the processes of one training.

Without torch: whoever leads asks before it signs for its operation, and torch takes seconds to import.
"""

from __future__ import annotations

import os


def rank() -> int:
    """The number of this process; 0 leads, and is alone where there is no launcher."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """The number of processes of this training; 1 where there is no launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
