"""What Prefect is told on the cluster: settings, work pool, automation, by Prefect's own models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import Settings
from prefect.utilities.templating import apply_values
from pydantic import BaseModel

from deploy.k8s.manifests import FOLDER, Manifest, complaints, pods
from tests.support.rendered_pods import built, environment

PREFECT = FOLDER / "components" / "prefect"


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return built("cpu")


def variables(model: type[BaseModel], prefix: str = "PREFECT_") -> Iterator[str]:
    """The names under which a settings model reads its fields."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from variables(kind, f"{prefix}{name.upper()}_")
        else:
            yield f"{prefix}{name.upper()}"


def test_every_variable_of_prefect_is_one_of_its_settings(manifests: list[Manifest]) -> None:
    known = set(variables(Settings))
    told = set()
    for app in ("prefect-server", "prefect-worker", "prefect-register"):
        told |= {name for name in environment(app, manifests) if name.startswith("PREFECT_")}
    (flows,) = [m["data"] for m in manifests if m["metadata"].get("name") == "flows" and "data" in m]
    told |= {name for name in flows if name.startswith("PREFECT_")}
    from_integration = {name for name in told if name.startswith("PREFECT_INTEGRATIONS_KUBERNETES_")}
    assert from_integration == {"PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"}
    assert told - from_integration <= known


def template() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((PREFECT / "base-job-template.json").read_text())
    return loaded


def rendered(**given: Any) -> dict[str, Any]:
    """The Job that the worker makes of the template for a run, by Prefect's own templating."""
    properties = template()["variables"]["properties"]
    values = {name: entry["default"] for name, entry in properties.items() if "default" in entry}
    values |= {"name": "round", "command": "prefect flow-run execute", **given}
    job: dict[str, Any] = apply_values(template()["job_configuration"]["job_manifest"], values)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["args"] = str(container["args"]).split()  # as the worker does
    return job


def test_a_run_is_a_job_that_kubernetes_takes_and_the_namespace_admits(manifests: list[Manifest]) -> None:
    job = rendered()
    assert complaints([job]) == []
    (found,) = pods([{**job, "metadata": {"name": "round"}}])
    assert found.spec["securityContext"]["runAsNonRoot"] is True
    assert found.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = found.containers
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert job["spec"]["backoffLimit"] == 0, "a run that died is run again by whoever started it"
    there = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    assert ("ServiceAccount", found.spec["serviceAccountName"]) in there
    assert ("ConfigMap", container["envFrom"][0]["configMapRef"]["name"]) in there
    used = {c["image"] for f in pods(manifests) if f.app == "prefect-server" for c in f.containers}
    assert {container["image"]} == used, "a client is never newer than its server"
    assert found.labels["app.kubernetes.io/name"] == "flows", "policies know runs by this label"


def test_a_run_gets_gpus_where_they_are_when_it_asks_for_them() -> None:
    selector = {"nvidia.com/gpu.present": "true"}
    job = rendered(gpus=2, node_selector=selector)
    assert complaints([job]) == []
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == selector
    assert [t["key"] for t in spec["tolerations"]] == ["nvidia.com/gpu"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2


def test_every_placeholder_of_the_template_is_a_variable_and_the_other_way_round() -> None:
    text = json.dumps(template()["job_configuration"])
    used = set(re.findall(r"\{\{ (\w+) \}\}", text))
    assert used == set(template()["variables"]["properties"])


def test_a_run_that_sends_no_heartbeat_for_three_periods_is_marked_as_crashed(
    manifests: list[Manifest],
) -> None:
    automation = AutomationCore.model_validate_json((PREFECT / "dead-runs.json").read_text())
    assert isinstance(automation.trigger, EventTrigger)
    assert automation.trigger.posture is Posture.Proactive
    (flows,) = [m["data"] for m in manifests if m["metadata"].get("name") == "flows" and "data" in m]
    period = timedelta(seconds=int(flows["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]))
    assert automation.trigger.within == 3 * period
    assert "prefect.flow-run.heartbeat" in automation.trigger.after
    assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Completed"} <= automation.trigger.expect
    assert automation.actions[0].type == "change-flow-run-state"
    assert f"'{automation.name}'" in (PREFECT / "register.sh").read_text()


def test_the_deployment_names_a_flow_that_is_in_the_image_and_the_registered_pool() -> None:
    declared = yaml.safe_load((PREFECT / "deployments.yaml").read_text())
    (deployment,) = declared["deployments"]
    path, _, flow = deployment["entrypoint"].partition(":")
    assert f"def {flow}(" in (FOLDER.parents[1] / path).read_text()
    assert f"work-pool create {deployment['work_pool']['name']} " in (PREFECT / "register.sh").read_text()
    (pull,) = declared["pull"]
    workdir = re.findall(
        r"^WORKDIR (/app)$", (FOLDER.parent / "images/flows.Containerfile").read_text(), re.M
    )
    assert list(pull.values()) == [{"directory": workdir[0]}]
