"""Publishes a classifier that says the same of every face; run inside an image that has torch.

Its head has no weights but a bias, so that its answer is known: P(male) = 3 / (1 + 3).
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch

from fairloop.registry import publish
from fairloop.store import ObjectStore
from services.annotator import classifier, classifier_network

ATTRIBUTE, CLASSES = "gender", ("female", "male")


def main() -> None:
    """Prints the name of the model, which lies in the bucket that the FAIRLOOP_S3_* variables name."""
    net = classifier_network.Classifier(classifier_network.ARCHITECTURES["resnet_small"]).eval()
    state = net.state_dict()
    state["head.fc.weight"].zero_()
    state["head.fc.bias"].copy_(torch.tensor([0.0, math.log(3.0)]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / classifier.FILE
        classifier_network.save(net, classifier_network.Meaning(ATTRIBUTE, CLASSES, "none"), path)
        files = {classifier.FILE: path.read_bytes()}
    model = publish(
        ObjectStore.from_environment(),
        "models/tiny-classifier",
        files,
        service="annotator",
        kind=classifier.KIND,
        description="says the same of every face",
        details={"attribute": ATTRIBUTE, "classes": list(CLASSES)},
    )
    print(model.name)


if __name__ == "__main__":
    main()
