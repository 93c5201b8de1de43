"""docs/licences.md: complete, and what the catalogues and the packages say."""

from __future__ import annotations

from email.message import Message
from importlib import metadata

import pytest

from fairloop import models
from fairloop.provenance import licences, published

PAGE = (licences.ROOT / licences.PAGE).read_text(encoding="utf-8")
PINS = licences.read_pins(licences.ROOT / licences.PINS)


def test_the_page_is_what_the_catalogues_and_packages_give() -> None:
    expected = licences.page(PINS, licences.read_packages(PAGE))
    assert expected == PAGE, "run `python -m fairloop.provenance.licences`"


def test_every_weight_set_and_pinned_package_has_a_row() -> None:
    for name in (*models.catalogue(), *published.catalogue()):
        assert f"\n| {name} | " in PAGE
    assert {(name, version) for name, version in PINS.items()} == set(licences.read_packages(PAGE)) - {
        ("package", "version"),
        ("---", "---"),
    }


def test_no_row_lacks_a_licence_for_want_of_an_installation() -> None:
    lacking = [
        name for (name, _), text in licences.read_packages(PAGE).items() if text == licences.NOT_INSTALLED
    ]
    assert lacking == []


def test_a_package_is_asked_for_its_expression_then_its_field_then_its_classifiers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*headers: tuple[str, str]) -> str | None:
        message = _message(("Version", "1.0"), *headers)
        monkeypatch.setattr(metadata, "metadata", lambda name: message)
        return licences.package_licence("some-package", "1.0")

    mit = ("Classifier", "License :: OSI Approved :: MIT License")
    assert told(("License-Expression", "MIT"), ("License", "see file"), mit) == "MIT"
    assert told(("License", "BSD 3-Clause"), mit) == "BSD 3-Clause"
    assert told(("License", "The whole text. " * 40), mit) == "MIT License"
    assert told(("License", "UNKNOWN"), mit) == "MIT License"
    assert told() == licences.NOT_STATED
    assert licences.package_licence("some-package", "2.0") is None, "another version is another package"


def _message(*headers: tuple[str, str]) -> Message:
    message = Message()
    for key, value in headers:
        message[key] = value
    return message


def test_what_is_not_installed_keeps_the_licence_that_the_page_has() -> None:
    pins = {"no-such-package": "1.0", "other": "2.0"}
    text = licences.page(pins, {("no-such-package", "1.0"): "MIT", ("other", "1.0"): "MIT"})
    assert "| no-such-package | 1.0 | MIT |" in text
    assert f"| other | 2.0 | {licences.NOT_INSTALLED} |" in text
