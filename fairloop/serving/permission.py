"""Whether the terms of everything that a request names allow it: asked once, at Start, before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from fairloop import names
from fairloop.manifest import USE
from fairloop.provenance import terms
from fairloop.provenance.terms import Use
from fairloop.serving.methods import Method, Pools
from fairloop.store import ObjectStore


def resources(request: Message) -> Iterator[str]:
    """Names of stored resources anywhere in a request, in the order of its fields."""
    for _, value in request.ListFields():
        for one in _values(value):
            if isinstance(one, Message):
                yield from resources(one)
            elif isinstance(one, str) and names.kind_of(one) is not None:
                yield one


def permit(store: ObjectStore, method: Method, request: Any, default: str) -> Use:
    """The use under which the request is done.

    `default` is the policy of a request that names none. Raises `InvalidInput`
    for a wrong policy, and `PreconditionFailed` that names the chain to
    whatever forbids the work, unless the request acknowledges it.
    """
    return terms.check(
        store,
        dict.fromkeys(resources(request)),
        request.use.policy or default,
        request.use.acknowledge,
        derives=method.derives,
        weights=method.weights(request) if method.weights else (),
    )


async def permit_weights(pools: Pools, store: ObjectStore, weights: Sequence[str]) -> None:
    """The same for catalogue weights that turn up while an operation runs; they join its recorded use.

    Nothing to ask where no operation is at work.
    """
    use = USE.get()
    if use is None:
        return
    found = await pools.io(terms.check, store, (), use["policy"], use["acknowledged"], weights=tuple(weights))
    objections = list(dict.fromkeys([*use["objections"], *found.objections]))
    USE.set({**use, "objections": objections})


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        yield from value
    else:
        yield value
