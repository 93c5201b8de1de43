"""Docker Compose itself reads the compose file, and finds in it what is written there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from deploy.compose.program import FOLDER, PROFILES, complaints, rendered, variables
from fairloop.errors import InvalidInput

pytestmark = pytest.mark.cluster

EXAMPLE = (FOLDER / ".env.example").read_text()
VARIABLES = variables(EXAMPLE)


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


VALUES = dict(line.split("=", 1) for line in VARIABLES.splitlines() if re.match(r"\w+=", line))


def written(profile: str) -> dict[str, Any]:
    """The services of a profile, as YAML has them."""
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return {name: own for name, own in services.items() if profile in own.get("profiles", [profile])}


def filled(text: str) -> str:
    """A value with the variables put in by hand; $$ is how a file writes a $ that is not for Compose."""
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda found: VALUES[found[1]], text).replace("$$", "$")


def test_a_profile_is_what_is_written_for_it(profile: str) -> None:
    found, expected = rendered(profile, VARIABLES), written(profile)
    assert found["name"] == "fairloop"
    assert complaints(found) == []
    assert set(found["services"]) == set(expected)
    for name, own in expected.items():
        made = found["services"][name]
        assert made["image"] == filled(own["image"])
        assert made.get("environment", {}) == {
            key: filled(value) for key, value in own.get("environment", {}).items()
        }
        assert {(port["published"], str(port["target"])) for port in made.get("ports", [])} == {
            tuple(port.split(":")[1:]) for port in own.get("ports", [])
        }
        waits = {other: entry["condition"] for other, entry in made.get("depends_on", {}).items()}
        assert waits == {other: entry["condition"] for other, entry in own.get("depends_on", {}).items()}
    devices = {
        name
        for name, made in found["services"].items()
        if made.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
    }
    assert devices == (
        {f"{name}-gpu" for name in ("generator", "annotator", "recognizer")} if profile == "gpu" else set()
    )


def test_a_password_that_is_left_out_is_asked_for_by_name(profile: str) -> None:
    with pytest.raises(InvalidInput, match=r"FAIRLOOP_POSTGRES_PASSWORD is missing a value: see \.env"):
        rendered(profile, EXAMPLE)
