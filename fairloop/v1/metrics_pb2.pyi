from fairloop.v1 import common_pb2 as _common_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportResult(_message.Message):
    __slots__ = ("report", "summary_json", "headline")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    report: str
    summary_json: str
    headline: str
    def __init__(self, report: _Optional[str] = ..., summary_json: _Optional[str] = ..., headline: _Optional[str] = ...) -> None: ...

class AuditDistributionRequest(_message.Message):
    __slots__ = ("annotations", "sources", "target", "before_annotations", "role", "seed", "request_id", "detached")
    class TargetEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    BEFORE_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    target: _containers.ScalarMap[str, float]
    before_annotations: str
    role: str
    seed: int
    request_id: str
    detached: bool
    def __init__(self, annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., target: _Optional[_Mapping[str, float]] = ..., before_annotations: _Optional[str] = ..., role: _Optional[str] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ...) -> None: ...

class Grouping(_message.Message):
    __slots__ = ("annotations", "sources", "groups", "min_agreement")
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MIN_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    groups: _containers.RepeatedScalarFieldContainer[str]
    min_agreement: float
    def __init__(self, annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., groups: _Optional[_Iterable[str]] = ..., min_agreement: _Optional[float] = ...) -> None: ...

class EvaluateVerificationRequest(_message.Message):
    __slots__ = ("embeddings", "grouping", "fmr", "seed", "replicates", "request_id", "detached")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    embeddings: str
    grouping: Grouping
    fmr: float
    seed: int
    replicates: int
    request_id: str
    detached: bool
    def __init__(self, embeddings: _Optional[str] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., fmr: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("name", "embeddings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    embeddings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., embeddings: _Optional[_Iterable[str]] = ...) -> None: ...

class CompareRecognizersRequest(_message.Message):
    __slots__ = ("baseline", "candidate", "grouping", "fmr", "tolerance", "seed", "replicates", "request_id", "detached", "measure", "self_graded")
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    SELF_GRADED_FIELD_NUMBER: _ClassVar[int]
    baseline: Arm
    candidate: Arm
    grouping: Grouping
    fmr: float
    tolerance: float
    seed: int
    replicates: int
    request_id: str
    detached: bool
    measure: str
    self_graded: bool
    def __init__(self, baseline: _Optional[_Union[Arm, _Mapping]] = ..., candidate: _Optional[_Union[Arm, _Mapping]] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., fmr: _Optional[float] = ..., tolerance: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., measure: _Optional[str] = ..., self_graded: _Optional[bool] = ...) -> None: ...

class RenderReportRequest(_message.Message):
    __slots__ = ("reports", "context_json", "grids", "request_id", "detached")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_JSON_FIELD_NUMBER: _ClassVar[int]
    GRIDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedScalarFieldContainer[str]
    context_json: str
    grids: _containers.RepeatedCompositeFieldContainer[FaceGrid]
    request_id: str
    detached: bool
    def __init__(self, reports: _Optional[_Iterable[str]] = ..., context_json: _Optional[str] = ..., grids: _Optional[_Iterable[_Union[FaceGrid, _Mapping]]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ...) -> None: ...

class FaceGrid(_message.Message):
    __slots__ = ("dataset", "annotations", "sources", "caption", "per_cell")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    PER_CELL_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    caption: str
    per_cell: int
    def __init__(self, dataset: _Optional[str] = ..., annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., caption: _Optional[str] = ..., per_cell: _Optional[int] = ...) -> None: ...
