"""The object store: what we may do there, and its clock."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import urllib3

from fairloop.doctor.finding import Finding, Outcome
from fairloop.errors import FairloopError, NotFound, PermissionDenied, Unavailable
from fairloop.store import ObjectStore, StoreSettings

PREFIX = "doctor/"
"""Of the probes: nothing else is written or deleted."""
TIMEOUT_SECONDS = 5.0

SKEW_WARN_SECONDS = 5.0
SKEW_FAIL_SECONDS = 840.0
"""S3 servers refuse a signature that is 15 minutes off; a minute before that it is urgent."""


def store(required: bool) -> Finding:
    """Writes, reads, lists and deletes one small object of its own."""
    away: Outcome = "fail" if required else "warn"
    facts: dict[str, str] = {}
    try:
        settings = StoreSettings.from_environment()
        facts = {"endpoint": settings.endpoint, "bucket": settings.bucket}
        took = probe(ObjectStore(settings, connections=2, timeout=TIMEOUT_SECONDS))
    except Unavailable as error:
        advice = "`make up` starts one; FAIRLOOP_S3_ENDPOINT names another"
        return Finding("store", away, str(error), advice, facts)
    except NotFound as error:
        advice = f"make the bucket {facts['bucket']}, or name another: FAIRLOOP_S3_BUCKET"
        return Finding("store", "fail", str(error), advice, facts)
    except PermissionDenied as error:
        advice = (
            "FAIRLOOP_S3_ACCESS_KEY and FAIRLOOP_S3_SECRET_KEY (or _SECRET_KEY_FILE) say who we are; it must "
            "be allowed to put, get, list and delete"
        )
        return Finding("store", "fail", str(error), advice, facts)
    except FairloopError as error:
        return Finding("store", "fail", str(error), "look at the FAIRLOOP_S3_* variables", facts)
    steps = ", ".join(f"{step} {seconds * 1e3:.0f} ms" for step, seconds in took.items())
    detail = f"{settings.endpoint}, bucket {settings.bucket}: {steps}"
    return Finding("store", "ok", detail, facts={**facts, "seconds": took})


def probe(opened: ObjectStore) -> dict[str, float]:
    """Seconds of each step. Raises when one is refused or does not do what it says; leaves nothing."""
    key = f"{PREFIX}{secrets.token_hex(8)}"
    data = secrets.token_bytes(4096)
    took: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took[step] = time.perf_counter() - started

    with timed("write"):
        opened.put(key, data)
    try:
        with timed("read"):
            read = opened.get(key)
        if read != data:
            raise FairloopError(f"s3://{opened.bucket}/{key} reads as other bytes than were written")
        with timed("list"):
            listed = key in set(opened.list(PREFIX))
        if not listed:
            raise FairloopError(f"s3://{opened.bucket}/{key} is there but is not listed under {PREFIX}")
    finally:
        with timed("delete"):
            opened.delete(key)
    if opened.size(key) is not None:
        raise FairloopError(f"s3://{opened.bucket}/{key} is still there after it was deleted")
    return took


def clock() -> Finding | None:
    """This machine's clock against the store's Date header; None when the store does not answer."""
    settings = StoreSettings.from_environment()
    pool = urllib3.PoolManager(timeout=TIMEOUT_SECONDS, retries=False)
    before = datetime.now(UTC)
    try:
        reply = pool.request("GET", settings.endpoint)
    except urllib3.exceptions.HTTPError:
        return None
    now = before + (datetime.now(UTC) - before) / 2
    stamp = reply.headers.get("Date")
    if not stamp:
        return Finding("clock", "warn", f"{settings.endpoint} sends no Date to compare with")
    return skew(parsedate_to_datetime(stamp), now)


def skew(theirs: datetime, ours: datetime) -> Finding:
    """What is to be said of a store's Date (whole seconds, cut off) and our own time."""
    # The Date stands for any moment of its second.
    apart = (theirs - ours).total_seconds()
    seconds = max(0.0, abs(apart + 0.5) - 0.5)
    facts = {"skew_seconds": round(apart + 0.5, 1)}
    if seconds <= SKEW_WARN_SECONDS:
        return Finding("clock", "ok", "agrees with the store's to the second or so", facts=facts)
    detail = f"the store's clock is {seconds:.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
    if seconds < SKEW_FAIL_SECONDS:
        advice = "synchronise it: times in listings are off; at 15 min the store refuses every request"
        return Finding("clock", "warn", detail, advice, facts)
    return Finding("clock", "fail", detail, "synchronise it: the store refuses what is 15 min off", facts)
