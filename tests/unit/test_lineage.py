"""Ancestry and descent from manifests: parents, weights, published sets; gaps are said and circles end."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop import manifest, models
from fairloop.cli import main
from fairloop.manifest import Manifest, Part, Terms
from fairloop.provenance import lineage, lineage_text
from fairloop.provenance.lineage import Lineage, Node
from fairloop.store import ObjectStore
from tests.support.manifests import dataset, model, put, table, version

MIT = Terms("MIT", "yes", "yes", "yes")


@pytest.fixture
def chain(store: ObjectStore) -> dict[str, str]:
    """A generator of catalogued weights, a dataset by it, labels, a recogniser, embeddings and a report."""
    entry = models.entry("dcgan-faces")
    generator = f"models/dcgan-faces/versions/{entry.sha256[:16]}"
    part = Part(f"{generator}/weights.tar", entry.sha256, entry.size)
    manifest.commit(
        store, Manifest("fairloop.model/1", generator, (part,), terms=(MIT,), details={"kind": "dcgan"})
    )
    made = {
        "generator": generator,
        "dataset": put(store, dataset(1), [generator], [MIT]),
        "labels": put(store, table("annotations", 2), [dataset(1)], [MIT], {"weights": ["age-onnx"]}),
        "recogniser": put(store, model(3), [dataset(1)], [MIT]),
        "embeddings": put(store, table("embeddings", 4), [dataset(1), model(3)], [MIT]),
        "report": put(store, table("reports", 5), [table("embeddings", 4), table("annotations", 2)], [MIT]),
    }
    put(store, dataset(9), [], [MIT])  # has nothing to do with it
    return made


def test_the_ancestry_of_a_report_reaches_the_weights_and_what_they_were_trained_on(
    store: ObjectStore, chain: dict[str, str]
) -> None:
    found = lineage.ancestry(store, [chain["report"]])
    assert set(found.nodes) == {
        *chain.values(),
        "weights/dcgan-faces",
        "weights/age-onnx",
        "published/digiface-1m",
    }
    assert found.ways()["published/digiface-1m"] == (
        chain["report"],
        chain["embeddings"],
        chain["dataset"],
        chain["generator"],
        "weights/dcgan-faces",
        "published/digiface-1m",
    )
    assert not any(node.wrong for node in found.nodes.values())


@pytest.mark.parametrize("start", ["published/digiface-1m", "weights/dcgan-faces", "generator"])
def test_the_descent_holds_all_that_was_made_from_it_and_nothing_else(
    store: ObjectStore, chain: dict[str, str], start: str
) -> None:
    name = chain.get(start, start)
    found = lineage.descent(store, name)
    above = {"published/digiface-1m": {"published/digiface-1m", "weights/dcgan-faces"}}
    assert set(found.nodes) == set(chain.values()) | above.get(name, {name})
    assert lineage.descent(store, chain["report"]).edges == {}


def test_terms_begin_where_no_parent_has_them(store: ObjectStore) -> None:
    nc = Terms("CC BY-NC 4.0", "no", "yes", "yes")
    put(store, dataset(1), [], [MIT])
    put(store, dataset(2), [dataset(1)], [MIT, nc])
    put(store, model(3), [dataset(2)], [MIT, nc])
    found = lineage.ancestry(store, [model(3)])
    assert [found.own_terms(name) for name in (model(3), dataset(2), dataset(1))] == [(), (nc,), (MIT,)]


def test_a_parent_that_is_gone_or_damaged_is_said_in_its_place(store: ObjectStore) -> None:
    put(store, model(1), [dataset(2), dataset(3), dataset(4), "../elsewhere"])
    store.put(f"{dataset(3)}/manifest.json", b"{not json")
    store.put_json(f"{dataset(4)}/manifest.json", {"schema": "fairloop.dataset/1", "parts": 7})
    found = lineage.ancestry(store, [model(1)])
    assert found.nodes[dataset(2)].wrong == "is missing: there is no manifest"
    assert "is not JSON" in found.nodes[dataset(3)].wrong
    assert "cannot be read" in found.nodes[dataset(4)].wrong
    assert "not the name of a stored resource" in found.nodes["../elsewhere"].wrong
    text = "\n".join(lineage_text.tree(found))
    assert f"{dataset(2)}  is missing" in text


def test_a_circle_ends(store: ObjectStore) -> None:
    put(store, dataset(1), [dataset(2)])
    put(store, dataset(2), [dataset(3)])
    put(store, dataset(3), [dataset(1), dataset(3)])
    found = lineage.ancestry(store, [dataset(1)])
    assert len(found.nodes) == 3
    assert list(lineage_text.tree(found))[-2:] == [
        f"      ├─ {dataset(1)}  (above)",
        f"      └─ {dataset(3)}  (above)",
    ]
    assert set(lineage.descent(store, dataset(2)).nodes) == {dataset(1), dataset(2), dataset(3)}
    assert lineage_text.svg(found).count("<rect") == 3


def test_a_chain_longer_than_pythons_stack_is_drawn() -> None:
    names = [dataset(k) for k in range(3_000)]
    nodes = {n: Node(n, "dataset version", tuple(names[k + 1 : k + 2])) for k, n in enumerate(names)}
    found = Lineage((names[0],), nodes, {n: node.parents for n, node in nodes.items()})
    assert len(list(lineage_text.tree(found))) == 3_000
    assert lineage_text.svg(found).count("<rect") == 3_000


def test_the_drawing_puts_every_node_below_all_that_lead_to_it_and_no_two_in_one_place(
    store: ObjectStore, chain: dict[str, str]
) -> None:
    found = lineage.ancestry(store, [chain["report"]])
    root = xml.etree.ElementTree.fromstring(lineage_text.svg(found))
    space = {"s": "http://www.w3.org/2000/svg"}
    places: dict[str, tuple[float, float]] = {}
    for group in root.findall("s:g", space):
        box, text = group.find("s:rect", space), group.find("s:title", space)
        assert box is not None
        assert text is not None
        assert text.text is not None
        places[text.text.split("  ")[0]] = (float(box.attrib["x"]), float(box.attrib["y"]))
    assert set(places) == set(found.nodes)
    assert len(set(places.values())) == len(places)
    for name, parents in found.edges.items():
        assert all(places[parent][1] > places[name][1] for parent in parents)


def test_a_title_cannot_break_the_drawing(store: ObjectStore) -> None:
    put(store, model(1), details={"description": "<script>alert('&')</script>"})
    text = lineage_text.svg(lineage.ancestry(store, [model(1)]))
    xml.etree.ElementTree.fromstring(text)
    assert "<script>" not in text


def test_the_command_prints_the_tree_draws_it_and_fails_when_a_parent_is_missing(
    store: ObjectStore,
    store_environment: dict[str, str],
    chain: dict[str, str],
    tmp_path: Path,
) -> None:
    run = CliRunner(env=store_environment)
    drawing = tmp_path / "lineage.svg"
    done = run.invoke(main, ["lineage", "datasets/d1", "--svg", str(drawing)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].startswith(chain["dataset"])
    assert "   └─ weights/dcgan-faces" in done.stdout
    assert drawing.read_text().startswith("<svg")
    put(store, model(7), [dataset(8)])
    done = run.invoke(main, ["lineage", model(7)])
    assert done.exit_code == 1
    assert f"└─ {dataset(8)}  is missing" in done.stdout
    put(store, f"datasets/d1/versions/{version(77)}")
    done = run.invoke(main, ["lineage", "datasets/d1"])
    assert done.exit_code == 1
    assert "several versions" in done.output
