"""What one run of the loop carries from stage to stage, and the two operations that every stage needs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol

from prefect import get_run_logger
from typing_extensions import TypeVar

from fairloop.seeds import child_seed
from fairloop.v1 import annotator_pb2, common_pb2, generator_pb2
from flows.params import LoopParameters, Policy
from flows.tasks import operate


class Parameters(Protocol):
    """What every loop has among its parameters."""

    seed: int
    policy: Policy
    acknowledge: str


P = TypeVar("P", bound=Parameters, default=LoopParameters)


@dataclass
class Round(Generic[P]):
    """What one run of a flow has come to: stages with their time, decisions with their inputs."""

    parameters: P
    salt: str
    seconds: dict[str, float] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    corrections: list[str] = field(default_factory=list)
    """Calibrations of the judging annotators."""

    def do(self, title: str, service: str, method: str, request: Any) -> Any:
        """One operation as a task, under the run's policy; its result."""
        use = common_pb2.Use(policy=self.parameters.policy.value, acknowledge=self.parameters.acknowledge)
        request.use.CopyFrom(use)
        body = request.SerializeToString(deterministic=True)
        return operate(title, service, method, body, type(request), self.salt)

    def seed(self, purpose: str) -> int:
        """The seed of one purpose; no two purposes share any randomness."""
        return child_seed(self.parameters.seed, purpose, 0) >> 1

    def stage(self, name: str, began: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def decide(self, what: str, because: str, **inputs: Any) -> None:
        """Records a decision with what it was made from."""
        get_run_logger().info("decision: %s, because %s", what, because)
        self.decisions.append({"decision": what, "because": because, "inputs": inputs})


def source(attribute: str, annotator: str) -> common_pb2.LabelSource:
    return common_pb2.LabelSource(attribute=attribute, annotator=annotator)


def annotate(
    run: Round[Any],
    title: str,
    dataset: str,
    sources: list[common_pb2.LabelSource],
    *,
    cropped: bool = False,
) -> str:
    """The annotation table of a dataset by the annotators of these sources; `cropped`: images are faces."""
    request = annotator_pb2.AnnotateRequest(
        dataset=dataset,
        annotators=sorted({source.annotator for source in sources}),
        attributes=sorted({source.attribute for source in sources}),
        cropped=cropped,
    )
    result = run.do(title, "annotator", "annotate", request)
    return str(result.annotations)


def generate(
    run: Round[Any], title: str, request: generator_pb2.GenerateRequest
) -> generator_pb2.GenerateResult:
    """A generated dataset, with what came of each quota in the log."""
    result: generator_pb2.GenerateResult = run.do(title, "generator", "generate", request)
    for made in result.quotas:
        if made.cell:
            get_run_logger().info(
                "  %s: %d of %d subjects from %d candidates",
                made.cell,
                made.subjects,
                made.subjects_wanted,
                made.candidate_subjects,
            )
    return result
