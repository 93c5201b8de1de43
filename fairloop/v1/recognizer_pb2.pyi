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

class Alignment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALIGNMENT_UNSPECIFIED: _ClassVar[Alignment]
    ALIGNMENT_NONE: _ClassVar[Alignment]
    ALIGNMENT_FIVE_POINTS: _ClassVar[Alignment]

class Schedule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEDULE_UNSPECIFIED: _ClassVar[Schedule]
    SCHEDULE_CONSTANT: _ClassVar[Schedule]
    SCHEDULE_COSINE: _ClassVar[Schedule]
    SCHEDULE_POLYNOMIAL: _ClassVar[Schedule]

class Optimiser(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPTIMISER_UNSPECIFIED: _ClassVar[Optimiser]
    OPTIMISER_SGD: _ClassVar[Optimiser]
    OPTIMISER_ADAMW: _ClassVar[Optimiser]

class Loss(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOSS_UNSPECIFIED: _ClassVar[Loss]
    LOSS_ARCFACE: _ClassVar[Loss]
    LOSS_COSFACE: _ClassVar[Loss]
    LOSS_COMBINED: _ClassVar[Loss]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_BFLOAT16: _ClassVar[Precision]
    PRECISION_FLOAT16: _ClassVar[Precision]

class Sampling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAMPLING_UNSPECIFIED: _ClassVar[Sampling]
    SAMPLING_SHUFFLED: _ClassVar[Sampling]
    SAMPLING_BALANCED: _ClassVar[Sampling]

class Split(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_UNSPECIFIED: _ClassVar[Split]
    SPLIT_SUBJECTS: _ClassVar[Split]
    SPLIT_IMAGES: _ClassVar[Split]

class Criterion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CRITERION_UNSPECIFIED: _ClassVar[Criterion]
    CRITERION_TMR: _ClassVar[Criterion]
    CRITERION_WORST_GROUP_FNMR: _ClassVar[Criterion]
    CRITERION_GARBE: _ClassVar[Criterion]
    CRITERION_LOSS: _ClassVar[Criterion]
THRESHOLD_SOURCE_UNSPECIFIED: ThresholdSource
THRESHOLD_SOURCE_CALLER: ThresholdSource
THRESHOLD_SOURCE_MODEL: ThresholdSource
MATCH_DECISION_UNSPECIFIED: MatchDecision
MATCH_DECISION_MATCH: MatchDecision
MATCH_DECISION_NO_MATCH: MatchDecision
MATCH_DECISION_UNDECIDED: MatchDecision
ALIGNMENT_UNSPECIFIED: Alignment
ALIGNMENT_NONE: Alignment
ALIGNMENT_FIVE_POINTS: Alignment
SCHEDULE_UNSPECIFIED: Schedule
SCHEDULE_CONSTANT: Schedule
SCHEDULE_COSINE: Schedule
SCHEDULE_POLYNOMIAL: Schedule
OPTIMISER_UNSPECIFIED: Optimiser
OPTIMISER_SGD: Optimiser
OPTIMISER_ADAMW: Optimiser
LOSS_UNSPECIFIED: Loss
LOSS_ARCFACE: Loss
LOSS_COSFACE: Loss
LOSS_COMBINED: Loss
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_BFLOAT16: Precision
PRECISION_FLOAT16: Precision
SAMPLING_UNSPECIFIED: Sampling
SAMPLING_SHUFFLED: Sampling
SAMPLING_BALANCED: Sampling
SPLIT_UNSPECIFIED: Split
SPLIT_SUBJECTS: Split
SPLIT_IMAGES: Split
CRITERION_UNSPECIFIED: Criterion
CRITERION_TMR: Criterion
CRITERION_WORST_GROUP_FNMR: Criterion
CRITERION_GARBE: Criterion
CRITERION_LOSS: Criterion

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

class GroupFalseMatches(_message.Message):
    __slots__ = ("group", "fmr", "impostors", "interval")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    IMPOSTORS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    group: str
    fmr: float
    impostors: int
    interval: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, group: _Optional[str] = ..., fmr: _Optional[float] = ..., impostors: _Optional[int] = ..., interval: _Optional[_Iterable[float]] = ...) -> None: ...

class MeasuredThreshold(_message.Message):
    __slots__ = ("report", "dataset", "label_source", "fmr", "impostors", "groups")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    LABEL_SOURCE_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    IMPOSTORS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    report: str
    dataset: str
    label_source: str
    fmr: float
    impostors: str
    groups: _containers.RepeatedCompositeFieldContainer[GroupFalseMatches]
    def __init__(self, report: _Optional[str] = ..., dataset: _Optional[str] = ..., label_source: _Optional[str] = ..., fmr: _Optional[float] = ..., impostors: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[GroupFalseMatches, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("score", "decision", "threshold", "first_status", "second_status", "model", "measured")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FIRST_STATUS_FIELD_NUMBER: _ClassVar[int]
    SECOND_STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    score: float
    decision: MatchDecision
    threshold: MatchThreshold
    first_status: _common_pb2.FaceStatus
    second_status: _common_pb2.FaceStatus
    model: str
    measured: MeasuredThreshold
    def __init__(self, score: _Optional[float] = ..., decision: _Optional[_Union[MatchDecision, str]] = ..., threshold: _Optional[_Union[MatchThreshold, _Mapping]] = ..., first_status: _Optional[_Union[_common_pb2.FaceStatus, str]] = ..., second_status: _Optional[_Union[_common_pb2.FaceStatus, str]] = ..., model: _Optional[str] = ..., measured: _Optional[_Union[MeasuredThreshold, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("dataset", "model", "request_id", "detached", "use", "flip", "alignment")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    model: str
    request_id: str
    detached: bool
    use: _common_pb2.Use
    flip: bool
    alignment: Alignment
    def __init__(self, dataset: _Optional[str] = ..., model: _Optional[str] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., flip: _Optional[bool] = ..., alignment: _Optional[_Union[Alignment, str]] = ...) -> None: ...

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

class EmbedCopiesRequest(_message.Message):
    __slots__ = ("dataset", "model", "transforms", "flip", "alignment", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMS_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    model: str
    transforms: _containers.RepeatedScalarFieldContainer[str]
    flip: bool
    alignment: Alignment
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., model: _Optional[str] = ..., transforms: _Optional[_Iterable[str]] = ..., flip: _Optional[bool] = ..., alignment: _Optional[_Union[Alignment, str]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class CopiesTable(_message.Message):
    __slots__ = ("transform", "level", "embeddings", "measured_by")
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_BY_FIELD_NUMBER: _ClassVar[int]
    transform: str
    level: float
    embeddings: str
    measured_by: str
    def __init__(self, transform: _Optional[str] = ..., level: _Optional[float] = ..., embeddings: _Optional[str] = ..., measured_by: _Optional[str] = ...) -> None: ...

class EmbedCopiesResult(_message.Message):
    __slots__ = ("tables", "images", "model")
    TABLES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    tables: _containers.RepeatedCompositeFieldContainer[CopiesTable]
    images: int
    model: str
    def __init__(self, tables: _Optional[_Iterable[_Union[CopiesTable, _Mapping]]] = ..., images: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class TrainingOptions(_message.Message):
    __slots__ = ("epochs", "batch_size", "learning_rate", "schedule", "margin", "scale", "checkpoint_steps", "optimiser", "momentum", "weight_decay", "warmup", "clip", "loss", "margin_multiplier", "cosine_margin", "interclass_filter", "sample_rate", "frozen", "frozen_statistics_move", "precision", "accumulation", "sampling", "group_by", "worst_share", "group_margins", "split", "held_out_share", "validate_every", "criterion", "fmr", "patience", "alignment", "mirror", "power")
    class GroupMarginsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    OPTIMISER_FIELD_NUMBER: _ClassVar[int]
    MOMENTUM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    COSINE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    INTERCLASS_FILTER_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    FROZEN_STATISTICS_MOVE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATION_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    WORST_SHARE_FIELD_NUMBER: _ClassVar[int]
    GROUP_MARGINS_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_SHARE_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_EVERY_FIELD_NUMBER: _ClassVar[int]
    CRITERION_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    MIRROR_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    margin: float
    scale: float
    checkpoint_steps: int
    optimiser: Optimiser
    momentum: float
    weight_decay: float
    warmup: float
    clip: float
    loss: Loss
    margin_multiplier: float
    cosine_margin: float
    interclass_filter: float
    sample_rate: float
    frozen: _containers.RepeatedScalarFieldContainer[str]
    frozen_statistics_move: bool
    precision: Precision
    accumulation: int
    sampling: Sampling
    group_by: _containers.RepeatedScalarFieldContainer[str]
    worst_share: float
    group_margins: _containers.ScalarMap[str, float]
    split: Split
    held_out_share: float
    validate_every: int
    criterion: Criterion
    fmr: float
    patience: int
    alignment: Alignment
    mirror: bool
    power: float
    def __init__(self, epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., schedule: _Optional[_Union[Schedule, str]] = ..., margin: _Optional[float] = ..., scale: _Optional[float] = ..., checkpoint_steps: _Optional[int] = ..., optimiser: _Optional[_Union[Optimiser, str]] = ..., momentum: _Optional[float] = ..., weight_decay: _Optional[float] = ..., warmup: _Optional[float] = ..., clip: _Optional[float] = ..., loss: _Optional[_Union[Loss, str]] = ..., margin_multiplier: _Optional[float] = ..., cosine_margin: _Optional[float] = ..., interclass_filter: _Optional[float] = ..., sample_rate: _Optional[float] = ..., frozen: _Optional[_Iterable[str]] = ..., frozen_statistics_move: _Optional[bool] = ..., precision: _Optional[_Union[Precision, str]] = ..., accumulation: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, str]] = ..., group_by: _Optional[_Iterable[str]] = ..., worst_share: _Optional[float] = ..., group_margins: _Optional[_Mapping[str, float]] = ..., split: _Optional[_Union[Split, str]] = ..., held_out_share: _Optional[float] = ..., validate_every: _Optional[int] = ..., criterion: _Optional[_Union[Criterion, str]] = ..., fmr: _Optional[float] = ..., patience: _Optional[int] = ..., alignment: _Optional[_Union[Alignment, str]] = ..., mirror: _Optional[bool] = ..., power: _Optional[float] = ...) -> None: ...

class FineTuneRecognizerRequest(_message.Message):
    __slots__ = ("dataset", "target_model", "seed", "options", "request_id", "detached", "use", "base", "architecture", "validation_dataset", "forgetting_dataset")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_DATASET_FIELD_NUMBER: _ClassVar[int]
    FORGETTING_DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    target_model: str
    seed: int
    options: TrainingOptions
    request_id: str
    detached: bool
    use: _common_pb2.Use
    base: str
    architecture: str
    validation_dataset: str
    forgetting_dataset: str
    def __init__(self, dataset: _Optional[str] = ..., target_model: _Optional[str] = ..., seed: _Optional[int] = ..., options: _Optional[_Union[TrainingOptions, _Mapping]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., base: _Optional[str] = ..., architecture: _Optional[str] = ..., validation_dataset: _Optional[str] = ..., forgetting_dataset: _Optional[str] = ...) -> None: ...

class VerificationRates(_message.Message):
    __slots__ = ("tmr", "threshold", "fmr", "worst_group_fnmr", "garbe")
    TMR_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    WORST_GROUP_FNMR_FIELD_NUMBER: _ClassVar[int]
    GARBE_FIELD_NUMBER: _ClassVar[int]
    tmr: float
    threshold: float
    fmr: float
    worst_group_fnmr: float
    garbe: float
    def __init__(self, tmr: _Optional[float] = ..., threshold: _Optional[float] = ..., fmr: _Optional[float] = ..., worst_group_fnmr: _Optional[float] = ..., garbe: _Optional[float] = ...) -> None: ...

class Forgetting(_message.Message):
    __slots__ = ("dataset", "before", "after")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    before: VerificationRates
    after: VerificationRates
    def __init__(self, dataset: _Optional[str] = ..., before: _Optional[_Union[VerificationRates, _Mapping]] = ..., after: _Optional[_Union[VerificationRates, _Mapping]] = ...) -> None: ...

class FineTuneRecognizerResult(_message.Message):
    __slots__ = ("model", "steps", "images", "subjects", "loss", "best_step", "validation", "forgetting", "planned_steps", "without_face")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    BEST_STEP_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    FORGETTING_FIELD_NUMBER: _ClassVar[int]
    PLANNED_STEPS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FACE_FIELD_NUMBER: _ClassVar[int]
    model: str
    steps: int
    images: int
    subjects: int
    loss: float
    best_step: int
    validation: VerificationRates
    forgetting: Forgetting
    planned_steps: int
    without_face: int
    def __init__(self, model: _Optional[str] = ..., steps: _Optional[int] = ..., images: _Optional[int] = ..., subjects: _Optional[int] = ..., loss: _Optional[float] = ..., best_step: _Optional[int] = ..., validation: _Optional[_Union[VerificationRates, _Mapping]] = ..., forgetting: _Optional[_Union[Forgetting, _Mapping]] = ..., planned_steps: _Optional[int] = ..., without_face: _Optional[int] = ...) -> None: ...
