"""The annotators of a server as its list shows them: what it loaded, and the classifiers of its store."""

from __future__ import annotations

from collections.abc import Sequence

from fairloop import registry as resources
from fairloop import taxonomy
from fairloop.errors import PreconditionFailed
from fairloop.manifest import Manifest, Terms
from fairloop.serving.pages import page
from fairloop.store import ObjectStore
from fairloop.v1 import annotator_pb2, common_pb2
from services.annotator import classifier, registry
from services.annotator.core import Facts
from services.annotator.engine import Engine
from services.annotator.messages import annotator_info, unavailable


def annotator_list(
    engine: Engine, store: ObjectStore, request: annotator_pb2.ListAnnotatorsRequest
) -> annotator_pb2.ListAnnotatorsResponse:
    """A page of them, ordered by name. Blocks while the store answers, raises `Unavailable` when it is away.

    Classifiers stand among `unavailable` where what they need is not installed.
    """
    found = [_loaded(engine, one) for one in engine.select(()).annotators]
    lacking = unavailable(engine.names())
    unreadable: tuple[str, ...] = ()
    if not request.loaded_only:
        listing = resources.list_models(store, "annotator", _classifier)
        unreadable = listing.unreadable
        trained = [one for one in listing.models if one is not None]
        remedy = _remedy()
        if remedy:
            lacking += [_out_of_reach(one, remedy) for one in trained]
        else:
            found += trained
    found.sort(key=lambda one: one.name)
    lacking.sort(key=lambda one: one.name)
    annotators, token = page(found, request.page_size, request.page_token, lambda one: one.name)
    return annotator_pb2.ListAnnotatorsResponse(
        annotators=annotators,
        next_page_token=token,
        unreadable=len(unreadable),
        unavailable=() if request.page_token else lacking,
    )


def _loaded(engine: Engine, annotator: Facts) -> annotator_pb2.AnnotatorInfo:
    info = annotator_pb2.AnnotatorInfo()
    info.CopyFrom(annotator_info(annotator, engine.description(annotator.name)))
    info.terms.extend(_terms(resources.weights_terms(registry.weights(annotator.name))))
    return info


def _classifier(model: Manifest) -> annotator_pb2.AnnotatorInfo | None:
    """None for a model that classifiers are trained from; `ValueError` where it names nothing known."""
    if model.details["kind"] != classifier.KIND:
        return None
    attribute, labels = str(model.details["attribute"]), list(model.details["classes"])
    if attribute not in taxonomy.ATTRIBUTES or not set(labels) <= set(taxonomy.values(attribute)):
        raise ValueError(f"{', '.join(map(str, labels))} of {attribute!r} are not labels of an attribute")
    facts = Facts(model.name, model.name.rsplit("/", 1)[1], (attribute,))
    info = annotator_pb2.AnnotatorInfo()
    info.CopyFrom(annotator_info(facts, str(model.details["description"])))
    info.labels.extend(labels)
    info.terms.extend(_terms(model.terms))
    return info


def _terms(terms: Sequence[Terms]) -> list[common_pb2.LicenceTerms]:
    return [
        common_pb2.LicenceTerms(
            licence=one.licence,
            commercial=one.commercial,
            derivatives=one.derivatives,
            redistribution=one.redistribution,
            consent=one.consent,
            purpose=one.purpose,
        )
        for one in terms
    ]


def _remedy() -> str:
    """What would let classifiers run here; empty when they do."""
    try:
        classifier.check_installed()
    except PreconditionFailed as error:
        return str(error)
    return ""


def _out_of_reach(info: annotator_pb2.AnnotatorInfo, remedy: str) -> annotator_pb2.UnavailableAnnotator:
    return annotator_pb2.UnavailableAnnotator(
        name=info.name, attributes=info.attributes, description=info.description, remedy=remedy
    )
