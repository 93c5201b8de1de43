"""A training as a Job of its own on a cluster: the same trainer as the servers spawn, under torchrun.

The operation is started as ever. A server with FAIRLOOP_TRAINING=external leaves it PENDING; the Job claims
its next attempt and goes on from its last checkpoint. A server that trains by itself is superseded by the
Job and stops. When a Job's process falls silent, a server sets the operation back to PENDING, or FAILED
after the third; the Job's next pod claims it again.
"""

from __future__ import annotations

import os
import shlex
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairloop import names
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.serving.record import JOB_OWNER
from fairloop.v1 import common_pb2

TRAINERS = ("generator", "recognizer", "annotator")
"""Services that train; the last its classifiers, in one process, which no flow asks for."""

RENDEZVOUS_PORT = 29_500
SHARED = "trainer"
"""The headless Service that gives pods of one Job their names, the account and the policy's label."""


class TrainingResources(BaseModel):
    """What a training gets. Each node runs one process for each of its GPUs, or one without any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: int = Field(1, ge=1, le=64, description="Pods or machines that train together.")
    gpus: int = Field(0, ge=0, le=16, description="GPUs of each node.")
    cpus: int = Field(4, ge=1, le=256, description="Processors of each node.")
    memory_gib: int = Field(16, ge=1, le=4_096, description="Memory of each node.")
    scratch_gib: int = Field(20, ge=1, le=4_096, description="Disk of each node for what is unpacked.")
    hours: float = Field(24.0, gt=0, le=720, description="Longest run; a checkpoint survives it.")
    retries: int = Field(3, ge=0, le=20, description="How often it is begun again after its machine is lost.")


def service_of(operation: str) -> str:
    """The service that trains for an operation; `InvalidInput` or `PreconditionFailed` when none does."""
    names.check("operation", operation, "operation")
    service = operation.removeprefix("operations/").partition("-")[0]
    if service not in TRAINERS:
        raise PreconditionFailed(f"{operation} is no training: {', '.join(TRAINERS)} train")
    return service


def command(operation: str, resources: TrainingResources, rendezvous: str) -> list[str]:
    """The trainer's command on each node; `rendezvous` is the host where several nodes meet."""
    trainer = ["-m", f"services.{service_of(operation)}.train", "--operation", operation]
    processes = max(resources.gpus, 1)
    if resources.nodes * processes == 1:
        return ["python3", *trainer]
    options = ["--nnodes", str(resources.nodes), "--nproc-per-node", str(processes)]
    if resources.nodes == 1:
        options.append("--standalone")
    else:
        options += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{rendezvous}:{RENDEZVOUS_PORT}"]
        options += ["--rdzv-id", job_name(operation)]
    return ["torchrun", *options, *trainer]


def job_name(operation: str, after: int = 0) -> str:
    """One name for each operation and attempt that it follows: submitting it twice starts it once.

    The Job of an attempt that was suspended lies there for a day; the next has another name.
    """
    return f"train-{operation.removeprefix('operations/')}" + (f"-{after}" if after else "")


def needs_job(metadata: common_pb2.OperationMetadata) -> bool:
    """Whether no Job has the training: it waits for one, or a server trains it until one comes."""
    going = (common_pb2.OPERATION_STATE_PENDING, common_pb2.OPERATION_STATE_RUNNING)
    return metadata.state in going and not metadata.owner.startswith(JOB_OWNER)


def manifest(
    operation: str, image: str, resources: TrainingResources | None = None, after: int = 0
) -> dict[str, Any]:
    """The Job as Kubernetes takes it: restricted, without rights, with as many pods as there are nodes.

    `after` is the attempt that it follows, for its name.
    """
    asked = resources or TrainingResources()
    name, service = job_name(operation, after), service_of(operation)
    labels = {
        "app.kubernetes.io/name": SHARED,
        "app.kubernetes.io/component": "job",
        "app.kubernetes.io/part-of": "fairloop",
        "fairloop/service": service,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": asked.retries * asked.nodes,
            "completionMode": "Indexed",
            "completions": asked.nodes,
            "parallelism": asked.nodes,
            "activeDeadlineSeconds": round(asked.hours * 3_600),
            "ttlSecondsAfterFinished": 86_400,
            # A pod that had to make way does not count as one that failed.
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(name, operation, image, asked)},
        },
    }


def _pod(name: str, operation: str, image: str, asked: TrainingResources) -> dict[str, Any]:
    gpus = {"nvidia.com/gpu": str(asked.gpus)} if asked.gpus else {}
    size = {"cpu": str(asked.cpus), "memory": f"{asked.memory_gib}Gi"}
    size["ephemeral-storage"] = f"{asked.scratch_gib}Gi"
    on_gpus: dict[str, Any] = {
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": SHARED,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "subdomain": SHARED,
        # It stores a checkpoint when it is told to go.
        "terminationGracePeriodSeconds": 120,
        **(on_gpus if asked.gpus else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10_001,
            "runAsGroup": 10_001,
            "fsGroup": 10_001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "trainer",
                "image": image,
                "command": command(operation, asked, f"{name}-0.{SHARED}"),
                "envFrom": [{"configMapRef": {"name": "flows"}}],
                "env": [
                    {
                        "name": "FAIRLOOP_S3_ACCESS_KEY",
                        "valueFrom": {"secretKeyRef": {"name": "fairloop-store", "key": "access-key"}},
                    },
                    {"name": "FAIRLOOP_THREADS", "value": str(max(1, asked.cpus // max(asked.gpus, 1)))},
                    {"name": "OMP_NUM_THREADS", "value": str(max(1, asked.cpus // max(asked.gpus, 1)))},
                ],
                "resources": {"requests": size, "limits": {**size, **gpus}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "weights", "mountPath": "/var/cache/fairloop", "readOnly": True},
                    {"name": "store", "mountPath": "/run/secrets/fairloop", "readOnly": True},
                    {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a volume of its own
                    {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
                ],
            }
        ],
        "volumes": [
            {"name": "weights", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}},
            {
                "name": "store",
                "secret": {
                    "secretName": "fairloop-store",
                    "defaultMode": 0o440,
                    "items": [{"key": "secret-key", "path": "store-secret-key"}],
                },
            },
            {"name": "scratch", "emptyDir": {"sizeLimit": f"{asked.scratch_gib}Gi"}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        ],
    }


async def submit(job: dict[str, Any], namespace: str = "fairloop") -> bool:
    """Gives the Job to the cluster that this pod runs in; False when it has one of that name already.

    Raises `PreconditionFailed` outside of a cluster, or without kubernetes_asyncio (the extra `worker`).
    """
    try:
        from kubernetes_asyncio import client, config
    except ImportError:
        raise PreconditionFailed(
            "submitting Jobs needs the extra worker: pip install 'fairloop[worker]'"
        ) from None
    try:
        config.load_incluster_config()
    except config.ConfigException as error:
        raise PreconditionFailed(f"this is no pod of a cluster: {error}") from None
    async with client.ApiClient() as api:
        try:
            await client.BatchV1Api(api).create_namespaced_job(namespace, job)
        except client.ApiException as error:
            if error.status == 409:
                return False
            raise PreconditionFailed(
                f"the cluster refused {job['metadata']['name']}: {error.status} {error.reason}"
            ) from error
    return True


def line(operation: str, resources: TrainingResources, rendezvous: str) -> str:
    """The trainer's command as a shell takes it."""
    return shlex.join(command(operation, resources, rendezvous))


def image_of(operation: str, resources: TrainingResources) -> str:
    """The image of the service that trains, of this release; FAIRLOOP_IMAGES says where images are."""
    compute = "cuda" if resources.gpus else "cpu"
    where = os.environ.get("FAIRLOOP_IMAGES", "fairloop/")
    return f"{where}{service_of(operation)}:{version('fairloop')}-{compute}"


def wanted() -> TrainingResources | None:
    """What trainings get as Jobs (FAIRLOOP_TRAINING_JOBS, JSON); None, where it is not set: no Jobs."""
    text = os.environ.get("FAIRLOOP_TRAINING_JOBS", "")
    if not text:
        return None
    try:
        return TrainingResources.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput("FAIRLOOP_TRAINING_JOBS", f"{where}: {first['msg']}") from None
