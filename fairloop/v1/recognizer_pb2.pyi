from fairloop.v1 import annotator_pb2 as _annotator_pb2
from fairloop.v1 import common_pb2 as _common_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ThresholdSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THRESHOLD_SOURCE_UNSPECIFIED: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_CALLER: _ClassVar[ThresholdSource]
    THRESHOLD_SOURCE_MODEL: _ClassVar[ThresholdSource]

class MatchDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MATCH_DECISION_UNSPECIFIED: _ClassVar[MatchDecision]
    MATCH_DECISION_MATCH: _ClassVar[MatchDecision]
    MATCH_DECISION_NO_MATCH: _ClassVar[MatchDecision]
    MATCH_DECISION_UNDECIDED: _ClassVar[MatchDecision]

class Schedule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEDULE_UNSPECIFIED: _ClassVar[Schedule]
    SCHEDULE_CONSTANT: _ClassVar[Schedule]
    SCHEDULE_COSINE: _ClassVar[Schedule]
    SCHEDULE_POLYNOMIAL: _ClassVar[Schedule]
THRESHOLD_SOURCE_UNSPECIFIED: ThresholdSource
THRESHOLD_SOURCE_CALLER: ThresholdSource
THRESHOLD_SOURCE_MODEL: ThresholdSource
MATCH_DECISION_UNSPECIFIED: MatchDecision
MATCH_DECISION_MATCH: MatchDecision
MATCH_DECISION_NO_MATCH: MatchDecision
MATCH_DECISION_UNDECIDED: MatchDecision
SCHEDULE_UNSPECIFIED: Schedule
SCHEDULE_CONSTANT: Schedule
SCHEDULE_COSINE: Schedule
SCHEDULE_POLYNOMIAL: Schedule

class RecognizerModel(_message.Message):
    __slots__ = ("name", "kind", "description", "dimension", "parents", "licence", "threshold")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    description: str
    dimension: int
    parents: _containers.RepeatedScalarFieldContainer[str]
    licence: str
    threshold: MatchThreshold
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., description: _Optional[str] = ..., dimension: _Optional[int] = ..., parents: _Optional[_Iterable[str]] = ..., licence: _Optional[str] = ..., threshold: _Optional[_Union[MatchThreshold, _Mapping]] = ...) -> None: ...

class MatchThreshold(_message.Message):
    __slots__ = ("score", "fmr", "source", "description")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    score: float
    fmr: float
    source: ThresholdSource
    description: str
    def __init__(self, score: _Optional[float] = ..., fmr: _Optional[float] = ..., source: _Optional[_Union[ThresholdSource, str]] = ..., description: _Optional[str] = ...) -> None: ...

class EmbedImagesRequest(_message.Message):
    __slots__ = ("model", "images")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedCompositeFieldContainer[_annotator_pb2.ImageItem]
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[_Union[_annotator_pb2.ImageItem, _Mapping]]] = ...) -> None: ...

class FaceEmbedding(_message.Message):
    __slots__ = ("status", "vector")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.FaceStatus
    vector: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, status: _Optional[_Union[_common_pb2.FaceStatus, str]] = ..., vector: _Optional[_Iterable[float]] = ...) -> None: ...

class EmbeddedImage(_message.Message):
    __slots__ = ("item_id", "face", "error")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    face: FaceEmbedding
    error: _status_pb2.Status
    def __init__(self, item_id: _Optional[str] = ..., face: _Optional[_Union[FaceEmbedding, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class EmbedImagesResponse(_message.Message):
    __slots__ = ("images", "model")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[EmbeddedImage]
    model: str
    def __init__(self, images: _Optional[_Iterable[_Union[EmbeddedImage, _Mapping]]] = ..., model: _Optional[str] = ...) -> None: ...

class CompareImagesRequest(_message.Message):
    __slots__ = ("model", "first", "second", "threshold")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    SECOND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    model: str
    first: bytes
    second: bytes
    threshold: float
    def __init__(self, model: _Optional[str] = ..., first: _Optional[bytes] = ..., second: _Optional[bytes] = ..., threshold: _Optional[float] = ...) -> None: ...

class CompareImagesResponse(_message.Message):
    __slots__ = ("score", "decision", "threshold", "first_status", "second_status", "model")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FIRST_STATUS_FIELD_NUMBER: _ClassVar[int]
    SECOND_STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    score: float
    decision: MatchDecision
    threshold: MatchThreshold
    first_status: _common_pb2.FaceStatus
    second_status: _common_pb2.FaceStatus
    model: str
    def __init__(self, score: _Optional[float] = ..., decision: _Optional[_Union[MatchDecision, str]] = ..., threshold: _Optional[_Union[MatchThreshold, _Mapping]] = ..., first_status: _Optional[_Union[_common_pb2.FaceStatus, str]] = ..., second_status: _Optional[_Union[_common_pb2.FaceStatus, str]] = ..., model: _Optional[str] = ...) -> None: ...

class ListRecognizerModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRecognizerModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "unreadable")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[RecognizerModel]
    next_page_token: str
    unreadable: int
    def __init__(self, models: _Optional[_Iterable[_Union[RecognizerModel, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreadable: _Optional[int] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("dataset", "model", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    model: str
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., model: _Optional[str] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class EmbedResult(_message.Message):
    __slots__ = ("embeddings", "images", "statuses", "model")
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    embeddings: str
    images: int
    statuses: _containers.ScalarMap[str, int]
    model: str
    def __init__(self, embeddings: _Optional[str] = ..., images: _Optional[int] = ..., statuses: _Optional[_Mapping[str, int]] = ..., model: _Optional[str] = ...) -> None: ...

class TrainingOptions(_message.Message):
    __slots__ = ("epochs", "batch_size", "learning_rate", "schedule", "margin", "scale", "checkpoint_steps")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    margin: float
    scale: float
    checkpoint_steps: int
    def __init__(self, epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., schedule: _Optional[_Union[Schedule, str]] = ..., margin: _Optional[float] = ..., scale: _Optional[float] = ..., checkpoint_steps: _Optional[int] = ...) -> None: ...

class FineTuneRecognizerRequest(_message.Message):
    __slots__ = ("dataset", "target_model", "seed", "options", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    target_model: str
    seed: int
    options: TrainingOptions
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., target_model: _Optional[str] = ..., seed: _Optional[int] = ..., options: _Optional[_Union[TrainingOptions, _Mapping]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class FineTuneRecognizerResult(_message.Message):
    __slots__ = ("model", "steps", "images", "subjects", "loss")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    model: str
    steps: int
    images: int
    subjects: int
    loss: float
    def __init__(self, model: _Optional[str] = ..., steps: _Optional[int] = ..., images: _Optional[int] = ..., subjects: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...
