"""A bucket of one's own on the tests' S3 server, for fixtures that live longer than one test."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from fairloop.store import ObjectStore, StoreSettings


def own_bucket(s3: Mapping[str, str]) -> tuple[dict[str, str], ObjectStore]:
    """The FAIRLOOP_S3_* variables of a new, empty bucket, and a store on it."""
    environment = {**s3, "FAIRLOOP_S3_BUCKET": f"test-{uuid.uuid4().hex[:12]}"}
    store = ObjectStore(
        StoreSettings(
            endpoint=environment["FAIRLOOP_S3_ENDPOINT"],
            access_key=environment["FAIRLOOP_S3_ACCESS_KEY"],
            secret_key=environment["FAIRLOOP_S3_SECRET_KEY"],
            bucket=environment["FAIRLOOP_S3_BUCKET"],
        )
    )
    store.ensure_bucket()
    return environment, store
