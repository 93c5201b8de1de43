"""Imports of what was made from something: its terms hold for the images, and the manifest says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop import importers
from fairloop.cli import main
from fairloop.errors import InvalidInput, NotFound, PreconditionFailed
from fairloop.importers import Choices
from fairloop.manifest import Terms
from fairloop.provenance import lineage, terms
from fairloop.provenance.marks import Mark, put_mark
from fairloop.store import ObjectStore
from tests.support.manifests import dataset, model, put
from tests.support.trees import image_bytes, plant

FREE = Terms("CC0-1.0", "yes", "yes", "yes", "yes")
CLOSED = Terms("for research only", "no", "no", "no", "unknown")


def bring(store: ObjectStore, root: Path, **chosen: object) -> importers.Imported:
    choices = Choices("mine", terms=(FREE,), **chosen)  # type: ignore[arg-type]
    return importers.import_dataset(store, "folder", root, "datasets/mine", choices)


def test_a_parent_that_forbids_derivatives_stops_the_import_before_an_image_is_read(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path, "1.png")
    source = put(store, dataset(1), terms=[CLOSED])
    between = put(store, dataset(2), parents=[source])
    with pytest.raises(PreconditionFailed, match=f"{between} → {source}: licence for research only forbids"):
        bring(store, tmp_path, parents=(between,))
    assert list(store.list("datasets/mine/")) == []
    made = bring(store, tmp_path, parents=(between,), acknowledge="asked the owner").dataset
    assert made.manifest.parents == (between,)
    assert made.manifest.details["use"]["acknowledged"] == "asked the owner"
    assert any("for research only" in one for one in made.manifest.details["use"]["objections"])
    # Whoever uses it later meets the same terms, without the import's reason.
    with pytest.raises(PreconditionFailed, match="for research only forbids"):
        terms.check(store, [made.name], "research")


def test_a_parent_that_allows_it_is_on_record_with_its_terms(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "1.png")
    open_set = put(store, dataset(3), terms=[Terms("CC-BY-4.0", "yes", "yes", "yes", "yes")])
    made = bring(store, tmp_path, parents=(open_set, "published/lfw"), policy="research").dataset
    assert made.manifest.parents == (open_set,)
    assert made.manifest.details["published"] == ["lfw"]
    assert [term.licence for term in made.manifest.terms] == ["CC0-1.0", "CC-BY-4.0"]
    assert {open_set, "published/lfw"} <= set(lineage.ancestry(store, [made.name]).nodes)


def test_images_that_name_a_model_of_this_bucket_come_under_its_terms(
    store: ObjectStore, tmp_path: Path
) -> None:
    generator = put(store, model(1), terms=[CLOSED])
    (tmp_path / "a.png").write_bytes(put_mark(image_bytes(1, ".png"), Mark(generator, 3, 0)))
    with pytest.raises(PreconditionFailed, match=f"{generator}: licence for research only forbids"):
        bring(store, tmp_path)
    assert [key for key in store.list("datasets/mine/") if key.endswith("manifest.json")] == []
    made = bring(store, tmp_path, acknowledge="an appendix").dataset
    assert made.manifest.parents == (generator,)
    # Anybody can write a name into a file: one that is not here is no parent.
    (tmp_path / "a.png").write_bytes(put_mark(image_bytes(2, ".png"), Mark(model(99), 3, 0)))
    assert bring(store, tmp_path).dataset.manifest.parents == ()


def test_a_parent_that_is_none_is_refused_by_name(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path, "1.png")
    for wrong in ("datasets/x", "published/nothing", "weights/nothing", "reports/0123456789abcdef"):
        with pytest.raises(InvalidInput, match=f"parents: '{wrong}' is not"):
            bring(store, tmp_path, parents=(wrong,))
    with pytest.raises(NotFound, match="does not exist"):
        bring(store, tmp_path, parents=(dataset(77),))


def test_the_command_takes_parents(
    store: ObjectStore, store_environment: dict[str, str], tmp_path: Path
) -> None:
    plant(tmp_path, "1.png")
    source = put(store, dataset(4), terms=[CLOSED])
    words = ["import", "folder", str(tmp_path), "--name", "mine", "--parent", source]
    ran = CliRunner().invoke(main, words, env=store_environment)
    assert ran.exit_code == 1
    assert "for research only forbids derivatives" in str(ran.output) + str(ran.exception)
    ran = CliRunner().invoke(main, [*words, "--acknowledge", "asked"], env=store_environment)
    assert ran.exit_code == 0, ran.output
