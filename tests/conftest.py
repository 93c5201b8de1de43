"""Fixtures that many tests share: a real S3 server and a store on it; and which tests run beside which."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from fairloop.store import ObjectStore, StoreSettings
from tests.support.processes import start_store

# Threads of OpenMP that spin while they wait take the core from the other worker's tests and servers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, what takes longest begins first.

    A file's tests share servers: `--dist loadfile` keeps them on one worker, and `--no-loadscope-reorder`
    this order.
    """
    if not getattr(config, "workerinput", None):
        return
    order = ("e2e", "integration", "contract", "unit")

    def tier(item: pytest.Item) -> str:
        return item.path.relative_to(config.rootpath / "tests").parts[0]

    items.sort(key=lambda item: order.index(tier(item)) if tier(item) in order else len(order))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The FAIRLOOP_S3_* variables of a real S3 server that lives for the session."""
    process, environment = start_store(tmp_path_factory.mktemp("s3"))
    yield environment
    process.stop()


@pytest.fixture
def store_environment(s3: dict[str, str]) -> dict[str, str]:
    """The variables of a bucket of one's own."""
    return {**s3, "FAIRLOOP_S3_BUCKET": f"test-{uuid.uuid4().hex[:12]}"}


@pytest.fixture
def store(store_environment: dict[str, str]) -> ObjectStore:
    """An empty bucket on the real server."""
    made = ObjectStore(
        StoreSettings(
            endpoint=store_environment["FAIRLOOP_S3_ENDPOINT"],
            access_key=store_environment["FAIRLOOP_S3_ACCESS_KEY"],
            secret_key=store_environment["FAIRLOOP_S3_SECRET_KEY"],
            bucket=store_environment["FAIRLOOP_S3_BUCKET"],
        )
    )
    made.ensure_bucket()
    return made
