"""The operation `EvaluateProtocol`: RFW's races, BFW's subgroups, over the lists that came with a dataset."""

from __future__ import annotations

from typing import Any

from fairloop import names, taxonomy
from fairloop.dataset import SCHEMA, Dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms
from fairloop.pair_protocols import SUBGROUPS, race_lists, subgroup_list
from fairloop.standalone.evaluation import DEFAULT_REPLICATES, Tell
from fairloop.standalone.protocols import evaluate_races, evaluate_subgroups
from fairloop.stats.bfw import TARGETS
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.tables import input_digest
from fairloop.v1 import metrics_pb2
from services.metrics.reports import Made, inputs_of
from services.metrics.verification import check_common

RFW, BFW = "rfw", "bfw"
DEFAULT_FAR = 1e-3
MOST_TARGETS = 20
OF_BFW = ("pair_list", "group_by", "fmr")


def check(request: metrics_pb2.EvaluateProtocolRequest) -> None:
    """Everything that can be wrong with a request without asking the store."""
    names.check("dataset version", request.dataset, "dataset")
    names.check("embeddings", request.embeddings, "embeddings")
    check_common(0.0, request.replicates, request.seed)
    if request.protocol not in (RFW, BFW):
        raise InvalidInput("protocol", f"{request.protocol!r} is not one of {RFW}, {BFW}")
    if request.protocol == RFW:
        for field in OF_BFW:
            if getattr(request, field):
                raise InvalidInput(field, f"goes with the protocol {BFW!r}")
        if request.HasField("alpha"):
            raise InvalidInput("alpha", f"goes with the protocol {BFW!r}")
    elif request.far:
        raise InvalidInput("far", f"goes with the protocol {RFW!r}")
    if request.far and not 0 < request.far < 1:
        raise InvalidInput("far", f"{request.far} is outside 0–1, both excluded")
    if request.HasField("alpha") and not 0 <= request.alpha <= 1:
        raise InvalidInput("alpha", f"{request.alpha} is outside 0–1")
    if len(request.fmr) > MOST_TARGETS or len(set(request.fmr)) < len(request.fmr):
        raise InvalidInput("fmr", f"needs at most {MOST_TARGETS} rates, each once")
    for rate in request.fmr:
        if not 0 < rate < 1:
            raise InvalidInput("fmr", f"{rate} is outside 0–1, both excluded")
    for attribute in request.group_by:
        taxonomy.values(attribute)
    if len(set(request.group_by)) < len(request.group_by):
        raise InvalidInput("group_by", "names an attribute twice")


def needed(request: metrics_pb2.EvaluateProtocolRequest) -> list[tuple[str, str]]:
    """Resources that must exist."""
    return [(request.dataset, SCHEMA), (request.embeddings, EMBEDDINGS)]


def evaluate(store: ObjectStore, request: metrics_pb2.EvaluateProtocolRequest, tell: Tell) -> Made:
    """One recogniser by one protocol."""
    tell("reading", 0, 2)
    dataset = Dataset.open(store, request.dataset)
    manifest, rows = read_table(store, request.embeddings, EMBEDDINGS)
    read = [dataset.manifest, manifest]
    inputs = inputs_of(read)
    facts: dict[str, Any] = {
        "inputs": inputs,
        "digest": input_digest(inputs),
        "model": manifest.details["model"],
        "pairs": dataset.name,
    }
    sampling = {"replicates": request.replicates or DEFAULT_REPLICATES, "seed": request.seed}
    if request.protocol == RFW:
        pairs = race_lists(store, dataset, rows)
        facts["label_source"] = pairs.label_source
        report, files = evaluate_races(pairs, facts, tell, far=request.far or DEFAULT_FAR, **sampling)
        ratio = report.summaries["skewed_error_ratio"]
        value = ratio.value if ratio.value is not None else ratio.value_under_zero_policy
        headline = (
            f"mean accuracy {report.mean:.4f}, STD {report.summaries['accuracy_std'].value:.4f}, "
            f"SER {value:.3g}{'' if ratio.value is not None else ' under the zero policy'}"
        )
        body = report.to_dict()
    else:
        chosen = tuple(request.group_by) or SUBGROUPS
        pairs = subgroup_list(store, dataset, rows, name=request.pair_list, attributes=chosen)
        facts["label_source"] = pairs.label_source
        found, files = evaluate_subgroups(
            pairs,
            facts,
            tell,
            targets=tuple(request.fmr) or TARGETS,
            alpha=request.alpha if request.HasField("alpha") else 0.5,
            **sampling,
        )
        first = found.targets[0]
        reached = [p for p in found.points if p.target_fmr == first and p.fmr is not None]
        highest = max(reached, key=lambda point: point.fmr or 0.0)
        headline = (
            f"at one threshold for FMR {first:g}, {highest.group} runs at {highest.fmr:.3g}, "
            f"at its own at {highest.own_fmr:.3g}"
        )
        body = found.to_dict()
    return Made(request.protocol, files, {**body, **facts}, headline, inputs, inherited_terms(read))
