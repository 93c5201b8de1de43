"""The operation `ExtractActivations`: a dataset and a network's layers in, an activation table out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import activations, names
from fairloop.activations import ActivationWriter, LayerColumn
from fairloop.dataset import Dataset, open_dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import inherited_terms
from fairloop.registry import weights_terms
from fairloop.serving.methods import Method, Pools, Shard, ShardContext, ShardOutput
from fairloop.serving.runner import RunningOperation
from fairloop.store import ObjectStore
from fairloop.table_store import pieces
from fairloop.v1 import annotator_pb2
from services.annotator import recipe, selectivity
from services.annotator.describe import reduced
from services.annotator.engine import Engine
from services.annotator.images import UnreadableImage, decode
from services.annotator.mask_effect import EffectTally
from services.annotator.networks import Network, Networks, Pixels

NAME = "AnnotatorService.ExtractActivations"
SHARD_IMAGES = 256
SHARD_BYTES = 4 * 2**20
"""Of answers; a shard has as many images as fit, and one at least."""
BATCH_IMAGES = 16
MOST_UNITS = 2**20
"""Numbers of one row of the table, 4 MiB: all of a large layer, unpooled."""
MOST_LAYERS = 64
MOST_MASKS = 64

POOLING = {
    annotator_pb2.POOLING_UNSPECIFIED: "none",
    annotator_pb2.POOLING_NONE: "none",
    annotator_pb2.POOLING_MEAN: "mean",
    annotator_pb2.POOLING_MAX: "max",
}
FRAMING = {
    annotator_pb2.FRAMING_UNSPECIFIED: "",
    annotator_pb2.FRAMING_FACE: "face",
    annotator_pb2.FRAMING_CROPPED: "cropped",
    annotator_pb2.FRAMING_ALIGNED: "aligned",
}

Request = annotator_pb2.ExtractActivationsRequest


def make_method(engine: Engine, networks: Networks, store: ObjectStore, pools: Pools) -> Method:
    """The method, bound to the server's detector and to the networks that it can load."""

    def made_by(request: Request, network: Network) -> str:
        return recipe.recipe(schema_of(request, network), [network.name], engine.detector)

    async def validate(request: Request) -> None:
        check(request)
        network = await pools.io(networks.get, request.network)
        check_layers(request, network)
        _masks(request, network)
        dataset = await pools.io(Dataset.open, store, request.dataset)
        await pools.io(selectivity.groupings, store, dataset, request.annotations, request.groups)

    async def run(operation: RunningOperation) -> annotator_pb2.ExtractActivationsResult:
        request: Request = operation.request
        network = await pools.io(networks.get, request.network)
        dataset = await pools.io(Dataset.open, store, request.dataset)
        by, annotations = await pools.io(
            selectivity.groupings, store, dataset, request.annotations, request.groups
        )
        columns = layer_columns(request, network)
        made_from = [dataset.name, network.name, *([annotations.name] if annotations else [])]
        table = ActivationWriter(store, schema_of(request, network), made_from)
        effects = EffectTally(network.attributes, by) if request.masks else None
        statuses: Counter[str] = Counter()
        shown: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = []
        same = made_by(request, network)
        shards = (
            Shard(index, {"start": start, "stop": stop}, recipe=same)
            for index, (start, stop) in enumerate(pieces(len(dataset), shard_images(columns)))
        )
        try:
            async for output in operation.shards(shards):
                data = await pools.io(store.get, output.parts[0].key)
                rows = await pools.io(table.add, data)
                if effects is not None:
                    await pools.io(effects.add, rows)
                statuses.update(rows["status"].to_pylist())
                shown.append(np.isin(rows["status"].to_numpy(zero_copy_only=False), ("ok", "several_faces")))
                operation.progress("looking inside", table.rows, len(dataset), "images")
            await pools.io(table.close)
            there = np.concatenate(shown)
            subjects = selectivity.subject_codes(dataset.index["subject_id"].to_pylist())
            records: list[dict[str, Any]] = []
            if by:
                blocks = selectivity.compared(table.groups, columns, by, there, subjects)
                while (block := await pools.io(next, blocks, None)) is not None:
                    records += block
                    done = block[-1]["unit"] + 1 if block else 0
                    operation.progress(f"comparing {block[-1]['layer'] if block else ''}", done, 0, "units")
            compared = await pools.io(selectivity.adjusted, records) if by and columns else None
            await operation.confirm()
            made = await pools.io(
                table.finish,
                {f"status_{status}": count for status, count in sorted(statuses.items())},
                inherited_terms(
                    [one for one in (dataset.manifest, network.model, annotations) if one is not None],
                    weights_terms(network.weights),
                ),
                _details(request, network, engine, by),
                ("torch", "dlib-bin"),
                compared,
                [f"{one.attribute} by {one.annotator} {one.version}" for one in by],
            )
        except BaseException:
            table.discard()
            raise
        return annotator_pb2.ExtractActivationsResult(
            activations=made.name,
            images=len(dataset),
            statuses=statuses,
            network=network.name,
            layers=[
                annotator_pb2.ExtractedLayer(
                    name=one.layer, type=one.kind, shape=one.shape, units=one.units, column=one.column
                )
                for one in columns
            ],
            effects=effects.messages() if effects else (),
            selective=selectivity.best(records),
            warnings=selectivity.warnings(by, there, subjects, columns, records),
        )

    async def shard(request: Request, spec: Mapping[str, Any], context: ShardContext) -> ShardOutput:
        from services.annotator.inside import look_inside

        network = await pools.io(networks.get, request.network)
        dataset = await pools.io(open_dataset, store, request.dataset)
        layers = [network.layers[name] for name in request.layers]
        masks, pooling = _masks(request, network), POOLING[request.pooling]
        framing = FRAMING[request.framing] or ("aligned" if network.whole else "face")
        made = []
        for start in range(spec["start"], spec["stop"], BATCH_IMAGES):
            stop = min(start + BATCH_IMAGES, spec["stop"])
            images = await pools.io(lambda first, last: list(dataset.images(first, last)), start, stop)
            statuses, chips = await _chips(engine, pools, network, framing, [data for _, data in images])
            inside = await pools.compute(look_inside, network, chips, layers, pooling, masks)
            made.append(
                await pools.io(_piece, request, network, [row for row, _ in images], statuses, inside)
            )
        data = await pools.io(_parquet, pa.concat_tables(made))
        part = await context.put(hashlib.sha256(data).hexdigest(), data)
        return ShardOutput((part,), units=spec["stop"] - spec["start"])

    def weights(request: Request) -> Sequence[str]:
        return networks.weights(request.network)

    async def recipe_of(request: Request) -> str:
        return made_by(request, await pools.io(networks.get, request.network))

    return Method(NAME, Request, validate, run, shard, derives=False, weights=weights, recipe=recipe_of)


def check(request: Request) -> None:
    """Everything that can be wrong with a request without asking anybody."""
    names.check("dataset version", request.dataset, "dataset")
    if request.annotations:
        names.check("annotations", request.annotations, "annotations")
    if not request.network:
        raise InvalidInput(
            "network", "is empty; name an annotator that is a torch network, or a model version"
        )
    for field, known in (("pooling", POOLING), ("framing", FRAMING)):
        if getattr(request, field) not in known:
            raise InvalidInput(field, f"{getattr(request, field)} is none that this version knows")
    if not request.layers and not request.masks:
        raise InvalidInput("layers", "is empty; name at least one, or masks (ListLayers has the names)")
    for field, most in (("layers", MOST_LAYERS), ("masks", MOST_MASKS)):
        if len(getattr(request, field)) > most:
            raise InvalidInput(field, f"has {len(getattr(request, field))} entries; at most {most}")
    selectivity.check_groups(request)


def check_layers(request: Request, network: Network) -> None:
    """`InvalidInput` for an unknown layer, or for more units than a row, or a comparison, takes."""
    from services.annotator.layers import check_layers as known

    known(network.layers, list(request.layers), network.name, "layers")
    known(network.layers, [mask.layer for mask in request.masks], network.name, "masks")
    units = sum(one.units for one in layer_columns(request, network))
    if units > MOST_UNITS:
        raise InvalidInput(
            "layers", f"have {units:,} units; at most {MOST_UNITS:,}: pool them, or name fewer"
        )
    if request.groups and units > selectivity.MOST_UNITS:
        raise InvalidInput(
            "groups",
            f"would be compared by {units:,} units; at most {selectivity.MOST_UNITS:,}: pool the layers",
        )


def layer_columns(request: Request, network: Network) -> list[LayerColumn]:
    """The layers as columns of the table, in the order of the request."""
    pooling = POOLING[request.pooling]
    return [
        LayerColumn(layer.name, layer.kind, layer.shape, layer.units(pooling), pooling)
        for layer in (network.layers[name] for name in request.layers)
    ]


def schema_of(request: Request, network: Network) -> pa.Schema:
    """The table's schema."""
    return activations.activation_schema(
        layer_columns(request, network),
        network.attributes,
        masked=bool(request.masks),
        embedding=network.guesses is None,
    )


def shard_images(columns: Sequence[LayerColumn]) -> int:
    """Images of one shard: so many that their answers take 4 MiB."""
    units = sum(one.units for one in columns)
    return max(1, min(SHARD_IMAGES, SHARD_BYTES // (4 * max(units, 1))))


def _masks(request: Request, network: Network) -> list[Any]:
    from services.annotator.unit_masks import make_mask

    return [
        make_mask(network.layers[one.layer], list(one.units), one.factor, list(one.values))
        for one in request.masks
    ]


async def _chips(
    engine: Engine, pools: Pools, network: Network, framing: str, images: Sequence[bytes]
) -> tuple[list[str], list[Pixels]]:
    """The status of each image, and what the network is shown of those that have it."""
    if framing == "aligned":
        whole = await pools.io(lambda: [_whole(data) for data in images])
        statuses = ["ok" if not isinstance(one, UnreadableImage) else one.status for one in whole]
        return statuses, [one for one in whole if not isinstance(one, UnreadableImage)]
    seen = await engine.seen(images, cropped=framing == "cropped")
    faces = [face for one in seen for face in one.faces]
    return [one.row.status for one in seen], await pools.io(network.chips, faces) if faces else []


def _whole(data: bytes) -> Pixels | UnreadableImage:
    try:
        return reduced(decode(data))[0]
    except UnreadableImage as error:
        return error


def _piece(
    request: Request,
    network: Network,
    rows: Sequence[Mapping[str, Any]],
    statuses: Sequence[str],
    inside: Any,
) -> pa.Table:
    """The rows of some images; `inside` has answers for those that were shown, in order."""
    schema = schema_of(request, network)
    shown = np.isin(statuses, ("ok", "several_faces"))
    place = np.cumsum(shown) - 1
    columns: dict[str, Any] = {
        "image_id": [row["image_id"] for row in rows],
        "subject_id": [row["subject_id"] for row in rows],
        "status": list(statuses),
    }
    for kind in ("", "masked_") if request.masks else ("",):
        said = inside.masked_guesses(network) if kind else inside.guesses(network)
        for attribute in network.attributes:
            guesses = [said[at][attribute] if there else None for at, there in zip(place, shown, strict=True)]
            column = f"perceived_{attribute}.{kind}"
            columns[f"{column}label"] = [guess and guess.label for guess in guesses]
            columns[f"{column}probabilities"] = [guess and list(guess.probabilities) for guess in guesses]
    if "masked_cosine" in schema.names:
        cosines = inside.cosines()
        columns["masked_cosine"] = [
            float(cosines[at]) if there else None for at, there in zip(place, shown, strict=True)
        ]
    arrays = [pa.array(columns[field.name], field.type) for field in schema if field.name in columns]
    for layer in layer_columns(request, network):
        answers = inside.activations[layer.layer]
        every = np.zeros((len(rows), layer.units), np.float32)
        every[shown] = answers
        arrays.append(pa.FixedSizeListArray.from_arrays(every.ravel(), layer.units, mask=pa.array(~shown)))
    return pa.Table.from_arrays(arrays, schema=schema)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _details(
    request: Request, network: Network, engine: Engine, by: Sequence[selectivity.Grouping]
) -> dict[str, Any]:
    return {
        "network": network.name,
        "layers": list(request.layers),
        "pooling": POOLING[request.pooling],
        "framing": FRAMING[request.framing] or ("aligned" if network.whole else "face"),
        "masks": [
            {"layer": one.layer, "units": list(one.units), "factor": one.factor}
            if one.units
            else {"layer": one.layer, "values": hashlib.sha256(str(list(one.values)).encode()).hexdigest()}
            for one in request.masks
        ],
        "groups": [[one.attribute, one.annotator, one.version] for one in by],
        "weights": list(network.weights),
        "detector": {engine.detector.name: engine.detector.version},
    }


__all__: Sequence[str] = ["NAME", "make_method"]
