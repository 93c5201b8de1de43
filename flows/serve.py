"""Serves the flow's deployment `fairness-loop/local` from this process: `python -m flows.serve`."""

from __future__ import annotations

from flows.fairness_loop import fairness_loop

if __name__ == "__main__":
    fairness_loop.serve(
        name="local",
        description="One round of the loop on this machine: audit, steer, generate, retrain, evaluate.",
        tags=["fairloop"],
    )
