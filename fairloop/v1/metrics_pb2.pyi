from fairloop.v1 import common_pb2 as _common_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportResult(_message.Message):
    __slots__ = ("report", "summary_json", "headline", "digest", "conventions", "consensus")
    class ConventionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    HEADLINE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONVENTIONS_FIELD_NUMBER: _ClassVar[int]
    CONSENSUS_FIELD_NUMBER: _ClassVar[int]
    report: str
    summary_json: str
    headline: str
    digest: str
    conventions: _containers.ScalarMap[str, str]
    consensus: str
    def __init__(self, report: _Optional[str] = ..., summary_json: _Optional[str] = ..., headline: _Optional[str] = ..., digest: _Optional[str] = ..., conventions: _Optional[_Mapping[str, str]] = ..., consensus: _Optional[str] = ...) -> None: ...

class GroupRates(_message.Message):
    __slots__ = ("group", "fmr", "fnmr", "impostor", "genuine", "accuracy")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    FNMR_FIELD_NUMBER: _ClassVar[int]
    IMPOSTOR_FIELD_NUMBER: _ClassVar[int]
    GENUINE_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    group: str
    fmr: float
    fnmr: float
    impostor: int
    genuine: int
    accuracy: float
    def __init__(self, group: _Optional[str] = ..., fmr: _Optional[float] = ..., fnmr: _Optional[float] = ..., impostor: _Optional[int] = ..., genuine: _Optional[int] = ..., accuracy: _Optional[float] = ...) -> None: ...

class ComputeSummaryRequest(_message.Message):
    __slots__ = ("groups", "alpha", "seed", "replicates")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupRates]
    alpha: float
    seed: int
    replicates: int
    def __init__(self, groups: _Optional[_Iterable[_Union[GroupRates, _Mapping]]] = ..., alpha: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ...) -> None: ...

class WorstGroups(_message.Message):
    __slots__ = ("rate", "groups")
    RATE_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    rate: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rate: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class SummaryValue(_message.Message):
    __slots__ = ("name", "formula", "fair", "value", "interval", "null_mean", "null_p95", "p_value", "flags", "value_under_zero_policy", "conventions")
    class ConventionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    FAIR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    NULL_MEAN_FIELD_NUMBER: _ClassVar[int]
    NULL_P95_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    VALUE_UNDER_ZERO_POLICY_FIELD_NUMBER: _ClassVar[int]
    CONVENTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    formula: str
    fair: float
    value: float
    interval: Interval
    null_mean: float
    null_p95: float
    p_value: float
    flags: _containers.RepeatedScalarFieldContainer[str]
    value_under_zero_policy: float
    conventions: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., formula: _Optional[str] = ..., fair: _Optional[float] = ..., value: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ..., null_mean: _Optional[float] = ..., null_p95: _Optional[float] = ..., p_value: _Optional[float] = ..., flags: _Optional[_Iterable[str]] = ..., value_under_zero_policy: _Optional[float] = ..., conventions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ComputeSummaryResponse(_message.Message):
    __slots__ = ("summaries", "conventions", "flags", "worst")
    class ConventionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    CONVENTIONS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    WORST_FIELD_NUMBER: _ClassVar[int]
    summaries: _containers.RepeatedCompositeFieldContainer[SummaryValue]
    conventions: _containers.ScalarMap[str, str]
    flags: _containers.RepeatedScalarFieldContainer[str]
    worst: _containers.RepeatedCompositeFieldContainer[WorstGroups]
    def __init__(self, summaries: _Optional[_Iterable[_Union[SummaryValue, _Mapping]]] = ..., conventions: _Optional[_Mapping[str, str]] = ..., flags: _Optional[_Iterable[str]] = ..., worst: _Optional[_Iterable[_Union[WorstGroups, _Mapping]]] = ...) -> None: ...

class AuditDistributionRequest(_message.Message):
    __slots__ = ("annotations", "sources", "target", "before_annotations", "role", "seed", "request_id", "detached", "clusters", "confusion", "use", "calibrations")
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
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    target: _containers.ScalarMap[str, float]
    before_annotations: str
    role: str
    seed: int
    request_id: str
    detached: bool
    clusters: str
    confusion: _containers.RepeatedCompositeFieldContainer[ConfusionRow]
    use: _common_pb2.Use
    calibrations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., target: _Optional[_Mapping[str, float]] = ..., before_annotations: _Optional[str] = ..., role: _Optional[str] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., clusters: _Optional[str] = ..., confusion: _Optional[_Iterable[_Union[ConfusionRow, _Mapping]]] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., calibrations: _Optional[_Iterable[str]] = ...) -> None: ...

class CompareAnnotatorsRequest(_message.Message):
    __slots__ = ("annotations", "attributes", "annotators", "groups", "certainty", "listed", "seed", "replicates", "request_id", "detached", "use")
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    CERTAINTY_FIELD_NUMBER: _ClassVar[int]
    LISTED_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    attributes: _containers.RepeatedScalarFieldContainer[str]
    annotators: _containers.RepeatedScalarFieldContainer[str]
    groups: _common_pb2.LabelSource
    certainty: float
    listed: int
    seed: int
    replicates: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, annotations: _Optional[str] = ..., attributes: _Optional[_Iterable[str]] = ..., annotators: _Optional[_Iterable[str]] = ..., groups: _Optional[_Union[_common_pb2.LabelSource, _Mapping]] = ..., certainty: _Optional[float] = ..., listed: _Optional[int] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class ConfusionRow(_message.Message):
    __slots__ = ("truth", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TRUTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    truth: str
    labels: _containers.ScalarMap[str, float]
    def __init__(self, truth: _Optional[str] = ..., labels: _Optional[_Mapping[str, float]] = ...) -> None: ...

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
    __slots__ = ("embeddings", "grouping", "fmr", "seed", "replicates", "request_id", "detached", "threshold", "policy", "alpha", "impostors", "threshold_in_replicates", "use", "pairs", "pair_list", "cross_validated")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    IMPOSTORS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_IN_REPLICATES_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    PAIR_LIST_FIELD_NUMBER: _ClassVar[int]
    CROSS_VALIDATED_FIELD_NUMBER: _ClassVar[int]
    embeddings: str
    grouping: Grouping
    fmr: float
    seed: int
    replicates: int
    request_id: str
    detached: bool
    threshold: float
    policy: str
    alpha: float
    impostors: str
    threshold_in_replicates: str
    use: _common_pb2.Use
    pairs: str
    pair_list: str
    cross_validated: bool
    def __init__(self, embeddings: _Optional[str] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., fmr: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., threshold: _Optional[float] = ..., policy: _Optional[str] = ..., alpha: _Optional[float] = ..., impostors: _Optional[str] = ..., threshold_in_replicates: _Optional[str] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., pairs: _Optional[str] = ..., pair_list: _Optional[str] = ..., cross_validated: _Optional[bool] = ...) -> None: ...

class EvaluateClassificationRequest(_message.Message):
    __slots__ = ("predictions", "annotated", "grouping", "positive", "seed", "replicates", "request_id", "detached", "use")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATED_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    predictions: str
    annotated: AnnotatedLabels
    grouping: Grouping
    positive: str
    seed: int
    replicates: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, predictions: _Optional[str] = ..., annotated: _Optional[_Union[AnnotatedLabels, _Mapping]] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., positive: _Optional[str] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class AnnotatedLabels(_message.Message):
    __slots__ = ("annotations", "source")
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    source: _common_pb2.LabelSource
    def __init__(self, annotations: _Optional[str] = ..., source: _Optional[_Union[_common_pb2.LabelSource, _Mapping]] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("name", "embeddings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    embeddings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., embeddings: _Optional[_Iterable[str]] = ...) -> None: ...

class CompareRecognizersRequest(_message.Message):
    __slots__ = ("baseline", "candidate", "grouping", "fmr", "tolerance", "seed", "replicates", "request_id", "detached", "measure", "self_graded", "use")
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
    USE_FIELD_NUMBER: _ClassVar[int]
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
    use: _common_pb2.Use
    def __init__(self, baseline: _Optional[_Union[Arm, _Mapping]] = ..., candidate: _Optional[_Union[Arm, _Mapping]] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., fmr: _Optional[float] = ..., tolerance: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., measure: _Optional[str] = ..., self_graded: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class RenderReportRequest(_message.Message):
    __slots__ = ("reports", "context_json", "grids", "request_id", "detached", "use")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_JSON_FIELD_NUMBER: _ClassVar[int]
    GRIDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedScalarFieldContainer[str]
    context_json: str
    grids: _containers.RepeatedCompositeFieldContainer[FaceGrid]
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, reports: _Optional[_Iterable[str]] = ..., context_json: _Optional[str] = ..., grids: _Optional[_Iterable[_Union[FaceGrid, _Mapping]]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

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

class FindLeaksRequest(_message.Message):
    __slots__ = ("dataset", "against", "embeddings", "against_embeddings", "threshold_embeddings", "fmr", "radius", "annotations", "sources", "thumbnails", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    AGAINST_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    against: _containers.RepeatedScalarFieldContainer[str]
    embeddings: str
    against_embeddings: _containers.RepeatedScalarFieldContainer[str]
    threshold_embeddings: str
    fmr: float
    radius: int
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    thumbnails: bool
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., against: _Optional[_Iterable[str]] = ..., embeddings: _Optional[str] = ..., against_embeddings: _Optional[_Iterable[str]] = ..., threshold_embeddings: _Optional[str] = ..., fmr: _Optional[float] = ..., radius: _Optional[int] = ..., annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., thumbnails: _Optional[bool] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class EvaluateProtocolRequest(_message.Message):
    __slots__ = ("dataset", "embeddings", "protocol", "pair_list", "group_by", "fmr", "far", "alpha", "seed", "replicates", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PAIR_LIST_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    FAR_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    embeddings: str
    protocol: str
    pair_list: str
    group_by: _containers.RepeatedScalarFieldContainer[str]
    fmr: _containers.RepeatedScalarFieldContainer[float]
    far: float
    alpha: float
    seed: int
    replicates: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., embeddings: _Optional[str] = ..., protocol: _Optional[str] = ..., pair_list: _Optional[str] = ..., group_by: _Optional[_Iterable[str]] = ..., fmr: _Optional[_Iterable[float]] = ..., far: _Optional[float] = ..., alpha: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class CompareThresholdsRequest(_message.Message):
    __slots__ = ("before", "after", "grouping", "fmr", "measure", "calibration_share", "tolerance", "self_graded", "alpha", "seed", "replicates", "request_id", "detached", "use")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_SHARE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    SELF_GRADED_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    before: _containers.RepeatedScalarFieldContainer[str]
    after: _containers.RepeatedScalarFieldContainer[str]
    grouping: Grouping
    fmr: float
    measure: str
    calibration_share: float
    tolerance: float
    self_graded: bool
    alpha: float
    seed: int
    replicates: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, before: _Optional[_Iterable[str]] = ..., after: _Optional[_Iterable[str]] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., fmr: _Optional[float] = ..., measure: _Optional[str] = ..., calibration_share: _Optional[float] = ..., tolerance: _Optional[float] = ..., self_graded: _Optional[bool] = ..., alpha: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class AgeBand(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class EvaluateAgesRequest(_message.Message):
    __slots__ = ("embeddings", "baseline", "bands", "age_groups", "all_pairs", "compatible", "request_id", "detached", "use")
    class BandsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AgeBand
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AgeBand, _Mapping]] = ...) -> None: ...
    class AgeGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AgeBand
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AgeBand, _Mapping]] = ...) -> None: ...
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    BANDS_FIELD_NUMBER: _ClassVar[int]
    AGE_GROUPS_FIELD_NUMBER: _ClassVar[int]
    ALL_PAIRS_FIELD_NUMBER: _ClassVar[int]
    COMPATIBLE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    embeddings: str
    baseline: str
    bands: _containers.MessageMap[str, AgeBand]
    age_groups: _containers.MessageMap[str, AgeBand]
    all_pairs: bool
    compatible: bool
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, embeddings: _Optional[str] = ..., baseline: _Optional[str] = ..., bands: _Optional[_Mapping[str, AgeBand]] = ..., age_groups: _Optional[_Mapping[str, AgeBand]] = ..., all_pairs: _Optional[bool] = ..., compatible: _Optional[bool] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class EvaluateRobustnessRequest(_message.Message):
    __slots__ = ("embeddings", "grouping", "fmr", "threshold", "seed", "replicates", "request_id", "detached", "use")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    GROUPING_FIELD_NUMBER: _ClassVar[int]
    FMR_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedScalarFieldContainer[str]
    grouping: Grouping
    fmr: float
    threshold: float
    seed: int
    replicates: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, embeddings: _Optional[_Iterable[str]] = ..., grouping: _Optional[_Union[Grouping, _Mapping]] = ..., fmr: _Optional[float] = ..., threshold: _Optional[float] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...
