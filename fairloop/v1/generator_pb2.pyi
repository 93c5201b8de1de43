from fairloop.v1 import common_pb2 as _common_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GeneratorModel(_message.Message):
    __slots__ = ("name", "kind", "description", "cells", "image_size", "parents", "licence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    description: str
    cells: _containers.RepeatedScalarFieldContainer[str]
    image_size: int
    parents: _containers.RepeatedScalarFieldContainer[str]
    licence: str
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., description: _Optional[str] = ..., cells: _Optional[_Iterable[str]] = ..., image_size: _Optional[int] = ..., parents: _Optional[_Iterable[str]] = ..., licence: _Optional[str] = ...) -> None: ...

class ListGeneratorModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGeneratorModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "unreadable")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[GeneratorModel]
    next_page_token: str
    unreadable: int
    def __init__(self, models: _Optional[_Iterable[_Union[GeneratorModel, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreadable: _Optional[int] = ...) -> None: ...

class GetGeneratorModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Latent(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class PreviewRequest(_message.Message):
    __slots__ = ("model", "cell", "latent", "count", "seed", "first_subject", "within_subject")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WITHIN_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    model: str
    cell: str
    latent: Latent
    count: int
    seed: int
    first_subject: int
    within_subject: float
    def __init__(self, model: _Optional[str] = ..., cell: _Optional[str] = ..., latent: _Optional[_Union[Latent, _Mapping]] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., first_subject: _Optional[int] = ..., within_subject: _Optional[float] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("index", "image", "subject", "cell", "latent", "model")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    index: int
    image: bytes
    subject: int
    cell: str
    latent: Latent
    model: str
    def __init__(self, index: _Optional[int] = ..., image: _Optional[bytes] = ..., subject: _Optional[int] = ..., cell: _Optional[str] = ..., latent: _Optional[_Union[Latent, _Mapping]] = ..., model: _Optional[str] = ...) -> None: ...

class Quota(_message.Message):
    __slots__ = ("cell", "subjects", "images_per_subject")
    CELL_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_PER_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    cell: str
    subjects: int
    images_per_subject: int
    def __init__(self, cell: _Optional[str] = ..., subjects: _Optional[int] = ..., images_per_subject: _Optional[int] = ...) -> None: ...

class Acceptance(_message.Message):
    __slots__ = ("sources", "min_quality", "max_candidates_per_image", "min_consistency")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    MIN_QUALITY_FIELD_NUMBER: _ClassVar[int]
    MAX_CANDIDATES_PER_IMAGE_FIELD_NUMBER: _ClassVar[int]
    MIN_CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    min_quality: float
    max_candidates_per_image: int
    min_consistency: float
    def __init__(self, sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., min_quality: _Optional[float] = ..., max_candidates_per_image: _Optional[int] = ..., min_consistency: _Optional[float] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("model", "quotas", "seed", "acceptance", "within_subject", "dataset", "request_id", "detached", "first_subject", "purpose", "use")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_FIELD_NUMBER: _ClassVar[int]
    WITHIN_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    FIRST_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    model: str
    quotas: _containers.RepeatedCompositeFieldContainer[Quota]
    seed: int
    acceptance: Acceptance
    within_subject: float
    dataset: str
    request_id: str
    detached: bool
    first_subject: int
    purpose: str
    use: _common_pb2.Use
    def __init__(self, model: _Optional[str] = ..., quotas: _Optional[_Iterable[_Union[Quota, _Mapping]]] = ..., seed: _Optional[int] = ..., acceptance: _Optional[_Union[Acceptance, _Mapping]] = ..., within_subject: _Optional[float] = ..., dataset: _Optional[str] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., first_subject: _Optional[int] = ..., purpose: _Optional[str] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class QuotaResult(_message.Message):
    __slots__ = ("cell", "subjects_wanted", "subjects", "images", "candidate_subjects", "candidate_images", "no_face")
    CELL_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_WANTED_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    NO_FACE_FIELD_NUMBER: _ClassVar[int]
    YIELD_FIELD_NUMBER: _ClassVar[int]
    cell: str
    subjects_wanted: int
    subjects: int
    images: int
    candidate_subjects: int
    candidate_images: int
    no_face: int
    def __init__(self, cell: _Optional[str] = ..., subjects_wanted: _Optional[int] = ..., subjects: _Optional[int] = ..., images: _Optional[int] = ..., candidate_subjects: _Optional[int] = ..., candidate_images: _Optional[int] = ..., no_face: _Optional[int] = ..., **kwargs) -> None: ...

class GenerateResult(_message.Message):
    __slots__ = ("dataset", "model", "images", "subjects", "quotas")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    model: str
    images: int
    subjects: int
    quotas: _containers.RepeatedCompositeFieldContainer[QuotaResult]
    def __init__(self, dataset: _Optional[str] = ..., model: _Optional[str] = ..., images: _Optional[int] = ..., subjects: _Optional[int] = ..., quotas: _Optional[_Iterable[_Union[QuotaResult, _Mapping]]] = ...) -> None: ...

class LatentSampler(_message.Message):
    __slots__ = ("annotations", "sources", "attributes", "target", "max_shift")
    class TargetEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MAX_SHIFT_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    target: _containers.ScalarMap[str, float]
    max_shift: float
    def __init__(self, annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., attributes: _Optional[_Iterable[str]] = ..., target: _Optional[_Mapping[str, float]] = ..., max_shift: _Optional[float] = ...) -> None: ...

class FineTuneGeneratorRequest(_message.Message):
    __slots__ = ("model", "target_model", "latent_sampler", "seed", "request_id", "detached", "use")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENT_SAMPLER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    model: str
    target_model: str
    latent_sampler: LatentSampler
    seed: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, model: _Optional[str] = ..., target_model: _Optional[str] = ..., latent_sampler: _Optional[_Union[LatentSampler, _Mapping]] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class NuisanceShift(_message.Message):
    __slots__ = ("attribute", "nuisance", "naive", "used", "r_squared")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    NUISANCE_FIELD_NUMBER: _ClassVar[int]
    NAIVE_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    R_SQUARED_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    nuisance: str
    naive: float
    used: float
    r_squared: float
    def __init__(self, attribute: _Optional[str] = ..., nuisance: _Optional[str] = ..., naive: _Optional[float] = ..., used: _Optional[float] = ..., r_squared: _Optional[float] = ...) -> None: ...

class CellShare(_message.Message):
    __slots__ = ("cell", "weight", "predicted_yield", "shift")
    CELL_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_YIELD_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    cell: str
    weight: float
    predicted_yield: float
    shift: float
    def __init__(self, cell: _Optional[str] = ..., weight: _Optional[float] = ..., predicted_yield: _Optional[float] = ..., shift: _Optional[float] = ...) -> None: ...

class FineTuneGeneratorResult(_message.Message):
    __slots__ = ("model", "images", "cells", "nuisances", "fit")
    class FitEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    NUISANCES_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: int
    cells: _containers.RepeatedCompositeFieldContainer[CellShare]
    nuisances: _containers.RepeatedCompositeFieldContainer[NuisanceShift]
    fit: _containers.ScalarMap[str, float]
    def __init__(self, model: _Optional[str] = ..., images: _Optional[int] = ..., cells: _Optional[_Iterable[_Union[CellShare, _Mapping]]] = ..., nuisances: _Optional[_Iterable[_Union[NuisanceShift, _Mapping]]] = ..., fit: _Optional[_Mapping[str, float]] = ...) -> None: ...
