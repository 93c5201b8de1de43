"""Trainings as Jobs of a cluster and as SLURM batches: the same trainer, command and resources."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.k8s.manifests import complaints, pods
from deploy.slurm.scripts import FOLDER as SLURM
from deploy.slurm.scripts import script
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.v1 import common_pb2
from flows import training_job
from flows.training_job import TRAINERS, TrainingResources, command, job_name, manifest
from tests.support.rendered_pods import built

ID = "a2b3" * 6 + "a2"
OPERATIONS = [f"operations/{service}-{ID}" for service in TRAINERS]
ASKED = {
    "one process": TrainingResources(),
    "a GPU": TrainingResources(gpus=1),
    "four GPUs": TrainingResources(gpus=4, cpus=32),
    "two nodes": TrainingResources(nodes=2, gpus=8, cpus=64, memory_gib=256, hours=72),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_the_job_is_one_that_kubernetes_takes_and_a_restricted_namespace_admits(
    operation: str, asked: TrainingResources
) -> None:
    job = manifest(operation, "fairloop/recognizer:0.1.0-cuda", asked)
    assert complaints([job]) == []
    (found,) = pods([job])
    (container,) = found.containers
    assert found.spec["securityContext"]["runAsNonRoot"] is True
    assert found.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found.spec["automountServiceAccountToken"] is False
    assert len(job["metadata"]["name"]) <= 57, "an Indexed Job adds -63 to it for the host names of its pods"
    limits = container["resources"]["limits"]
    assert limits.get("nvidia.com/gpu", "0") == str(asked.gpus)
    assert bool(asked.gpus) == ("nodeSelector" in found.spec) == ("tolerations" in found.spec)
    assert job["spec"]["parallelism"] == job["spec"]["completions"] == asked.nodes


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_the_job_names_is_in_the_overlay(operation: str) -> None:
    manifests = built("gpu")
    there = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    (found,) = pods([manifest(operation, "fairloop/generator:0.1.0-cuda")])
    assert ("ServiceAccount", found.spec["serviceAccountName"]) in there
    assert ("Service", found.spec["subdomain"]) in there
    assert ("ConfigMap", found.containers[0]["envFrom"][0]["configMapRef"]["name"]) in there
    claims = {
        v["persistentVolumeClaim"]["claimName"] for v in found.spec["volumes"] if "persistentVolumeClaim" in v
    }
    assert {("PersistentVolumeClaim", claim) for claim in claims} <= there
    (service,) = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Service", "trainer")]
    assert service["spec"]["selector"].items() <= found.labels.items()
    assert service["spec"]["ports"][0]["port"] == training_job.RENDEZVOUS_PORT


def test_processes_are_as_many_as_gpus_and_meet_where_there_are_several_nodes() -> None:
    alone, one, four, nodes = (command(OPERATIONS[1], asked, "meeting") for asked in ASKED.values())
    trainer = ["-m", "services.recognizer.train", "--operation", OPERATIONS[1]]
    assert alone == one == ["python3", *trainer]
    assert four == ["torchrun", "--nnodes", "1", "--nproc-per-node", "4", "--standalone", *trainer]
    assert nodes[:5] == ["torchrun", "--nnodes", "2", "--nproc-per-node", "8"]
    assert nodes[nodes.index("--rdzv-endpoint") + 1] == "meeting:29500"
    assert nodes[-4:] == trainer


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_batch_runs_the_same_command_with_the_same_resources(
    operation: str, asked: TrainingResources, tmp_path: Path
) -> None:
    made = script(operation, asked, "/shared/fair loop", ".venv", "secrets/environment", "lab", "gpu")
    path = tmp_path / "train.sbatch"
    path.write_text(made)
    checked = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), path], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, "")
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", made, re.MULTILINE))
    assert directives["nodes"] == str(asked.nodes)
    assert directives["cpus-per-task"] == str(asked.cpus)
    assert directives["mem"] == f"{asked.memory_gib}G"
    assert directives.get("gpus-per-node", "0") == str(asked.gpus)
    assert (directives["account"], directives["partition"]) == ("lab", "gpu")
    hours, minutes, _ = map(int, directives["time"].split(":"))
    assert hours + minutes / 60 == asked.hours
    (started,) = re.findall(r"^srun (.+)$", made, re.MULTILINE)
    assert started.replace('"$head"', "HEAD").split() == command(operation, asked, "HEAD")
    assert "cd '/shared/fair loop'" in made


def test_every_trainer_has_a_template_and_a_module() -> None:
    assert {path.stem for path in SLURM.glob("*.sbatch")} == set(TRAINERS)
    assert all(Path("services", name, "train.py").is_file() for name in TRAINERS)


def test_what_is_no_training_or_no_word_is_refused() -> None:
    with pytest.raises(PreconditionFailed, match="is no training: generator, recognizer, annotator train"):
        manifest(f"operations/metrics-{ID}", "image")
    with pytest.raises(InvalidInput, match="operation"):
        training_job.service_of("operations/../generator")
    with pytest.raises(InvalidInput, match="account: 'a b' is not one word"):
        script(OPERATIONS[0], TrainingResources(), "/c", ".venv", "e", account="a b")
    with pytest.raises(ValidationError, match="less than or equal to 16"):
        TrainingResources(gpus=17)
    assert job_name(OPERATIONS[0]) == f"train-generator-{ID}"


def test_the_environment_says_whether_trainings_are_jobs_and_of_which_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FAIRLOOP_TRAINING_JOBS", raising=False)
    assert training_job.wanted() is None
    monkeypatch.setenv("FAIRLOOP_TRAINING_JOBS", '{"gpus": 4, "nodes": 2}')
    asked = training_job.wanted()
    assert asked == TrainingResources(gpus=4, nodes=2)
    assert asked is not None
    assert training_job.image_of(OPERATIONS[0], asked) == "fairloop/generator:0.1.0-cuda"
    monkeypatch.setenv("FAIRLOOP_IMAGES", "registry.example/team/")
    assert training_job.image_of(OPERATIONS[1], TrainingResources()).startswith(
        "registry.example/team/recognizer:"
    )
    monkeypatch.setenv("FAIRLOOP_TRAINING_JOBS", '{"gpu": 4}')
    with pytest.raises(InvalidInput, match="FAIRLOOP_TRAINING_JOBS: gpu: Extra inputs are not permitted"):
        training_job.wanted()


def test_the_job_of_a_later_attempt_has_a_name_of_its_own_and_pods_that_make_way_do_not_count() -> None:
    first, later = (manifest(OPERATIONS[1], "image", ASKED["two nodes"], after) for after in (1, 3))
    assert first["metadata"]["name"] == f"train-recognizer-{ID}-1"
    assert later["metadata"]["name"] == f"train-recognizer-{ID}-3"
    command_line = later["spec"]["template"]["spec"]["containers"][0]["command"]
    assert f"train-recognizer-{ID}-3-0.trainer:29500" in command_line, (
        "they meet at the first pod of their own Job"
    )
    assert complaints([later]) == []
    (rule,) = later["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])


@pytest.mark.parametrize(
    ("state", "owner", "wanted"),
    [
        ("PENDING", "recognizer-1a2b", True),
        ("RUNNING", "recognizer-1a2b", True),
        ("PENDING", "job-1a2b", False),
        ("RUNNING", "job-1a2b", False),
        ("SUSPENDED", "job-1a2b", False),
        ("SUCCEEDED", "recognizer-1a2b", False),
    ],
)
def test_a_job_is_wanted_where_none_has_the_training(state: str, owner: str, wanted: bool) -> None:
    metadata = common_pb2.OperationMetadata(state=f"OPERATION_STATE_{state}", owner=owner)
    assert training_job.needs_job(metadata) is wanted


def test_outside_of_a_cluster_submitting_says_what_is_missing() -> None:
    with pytest.raises(PreconditionFailed, match=r"extra worker|no pod of a cluster"):
        asyncio.run(training_job.submit(manifest(OPERATIONS[0], "fairloop/generator:0.1.0-cpu")))
