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

class FacePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FACE_POLICY_UNSPECIFIED: _ClassVar[FacePolicy]
    FACE_POLICY_LARGEST: _ClassVar[FacePolicy]
    FACE_POLICY_MOST_CENTRAL: _ClassVar[FacePolicy]
    FACE_POLICY_ALL: _ClassVar[FacePolicy]
    FACE_POLICY_REFUSE: _ClassVar[FacePolicy]

class Framing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAMING_UNSPECIFIED: _ClassVar[Framing]
    FRAMING_FACE: _ClassVar[Framing]
    FRAMING_CROPPED: _ClassVar[Framing]
    FRAMING_ALIGNED: _ClassVar[Framing]

class Pooling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOLING_UNSPECIFIED: _ClassVar[Pooling]
    POOLING_NONE: _ClassVar[Pooling]
    POOLING_MEAN: _ClassVar[Pooling]
    POOLING_MAX: _ClassVar[Pooling]

class ClassifierLoss(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLASSIFIER_LOSS_UNSPECIFIED: _ClassVar[ClassifierLoss]
    CLASSIFIER_LOSS_CROSS_ENTROPY: _ClassVar[ClassifierLoss]
    CLASSIFIER_LOSS_DAG: _ClassVar[ClassifierLoss]
    CLASSIFIER_LOSS_DAW: _ClassVar[ClassifierLoss]

class ClassifierTrained(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLASSIFIER_TRAINED_UNSPECIFIED: _ClassVar[ClassifierTrained]
    CLASSIFIER_TRAINED_HEAD: _ClassVar[ClassifierTrained]
    CLASSIFIER_TRAINED_TOP: _ClassVar[ClassifierTrained]
    CLASSIFIER_TRAINED_ALL: _ClassVar[ClassifierTrained]

class ClassifierAlignment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLASSIFIER_ALIGNMENT_UNSPECIFIED: _ClassVar[ClassifierAlignment]
    CLASSIFIER_ALIGNMENT_NONE: _ClassVar[ClassifierAlignment]
    CLASSIFIER_ALIGNMENT_LANDMARKS: _ClassVar[ClassifierAlignment]
FACE_POLICY_UNSPECIFIED: FacePolicy
FACE_POLICY_LARGEST: FacePolicy
FACE_POLICY_MOST_CENTRAL: FacePolicy
FACE_POLICY_ALL: FacePolicy
FACE_POLICY_REFUSE: FacePolicy
FRAMING_UNSPECIFIED: Framing
FRAMING_FACE: Framing
FRAMING_CROPPED: Framing
FRAMING_ALIGNED: Framing
POOLING_UNSPECIFIED: Pooling
POOLING_NONE: Pooling
POOLING_MEAN: Pooling
POOLING_MAX: Pooling
CLASSIFIER_LOSS_UNSPECIFIED: ClassifierLoss
CLASSIFIER_LOSS_CROSS_ENTROPY: ClassifierLoss
CLASSIFIER_LOSS_DAG: ClassifierLoss
CLASSIFIER_LOSS_DAW: ClassifierLoss
CLASSIFIER_TRAINED_UNSPECIFIED: ClassifierTrained
CLASSIFIER_TRAINED_HEAD: ClassifierTrained
CLASSIFIER_TRAINED_TOP: ClassifierTrained
CLASSIFIER_TRAINED_ALL: ClassifierTrained
CLASSIFIER_ALIGNMENT_UNSPECIFIED: ClassifierAlignment
CLASSIFIER_ALIGNMENT_NONE: ClassifierAlignment
CLASSIFIER_ALIGNMENT_LANDMARKS: ClassifierAlignment

class UnavailableAnnotator(_message.Message):
    __slots__ = ("name", "attributes", "description", "remedy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    name: str
    attributes: _containers.RepeatedScalarFieldContainer[str]
    description: str
    remedy: str
    def __init__(self, name: _Optional[str] = ..., attributes: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class AnnotatorInfo(_message.Message):
    __slots__ = ("name", "version", "attributes", "description", "weights", "labels", "terms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    attributes: _containers.RepeatedScalarFieldContainer[str]
    description: str
    weights: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.RepeatedScalarFieldContainer[str]
    terms: _containers.RepeatedCompositeFieldContainer[_common_pb2.LicenceTerms]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., attributes: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., weights: _Optional[_Iterable[str]] = ..., labels: _Optional[_Iterable[str]] = ..., terms: _Optional[_Iterable[_Union[_common_pb2.LicenceTerms, _Mapping]]] = ...) -> None: ...

class ListAnnotatorsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "loaded_only")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOADED_ONLY_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    loaded_only: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., loaded_only: _Optional[bool] = ...) -> None: ...

class ListAnnotatorsResponse(_message.Message):
    __slots__ = ("annotators", "next_page_token", "unreadable", "unavailable")
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    annotators: _containers.RepeatedCompositeFieldContainer[AnnotatorInfo]
    next_page_token: str
    unreadable: int
    unavailable: _containers.RepeatedCompositeFieldContainer[UnavailableAnnotator]
    def __init__(self, annotators: _Optional[_Iterable[_Union[AnnotatorInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreadable: _Optional[int] = ..., unavailable: _Optional[_Iterable[_Union[UnavailableAnnotator, _Mapping]]] = ...) -> None: ...

class ImageItem(_message.Message):
    __slots__ = ("item_id", "image")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    image: bytes
    def __init__(self, item_id: _Optional[str] = ..., image: _Optional[bytes] = ...) -> None: ...

class PerceivedAttribute(_message.Message):
    __slots__ = ("source", "label", "probabilities", "value", "uncertain", "sensitivity")
    class SensitivityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    source: _common_pb2.LabelSource
    label: str
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    value: float
    uncertain: bool
    sensitivity: _containers.ScalarMap[str, str]
    def __init__(self, source: _Optional[_Union[_common_pb2.LabelSource, _Mapping]] = ..., label: _Optional[str] = ..., probabilities: _Optional[_Iterable[float]] = ..., value: _Optional[float] = ..., uncertain: _Optional[bool] = ..., sensitivity: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FaceDescription(_message.Message):
    __slots__ = ("status", "faces_found", "box", "landmarks", "quality", "perceived", "scene", "quality_components")
    class SceneEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class QualityComponentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FACES_FOUND_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    PERCEIVED_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.FaceStatus
    faces_found: int
    box: _containers.RepeatedScalarFieldContainer[float]
    landmarks: _containers.RepeatedScalarFieldContainer[float]
    quality: float
    perceived: _containers.RepeatedCompositeFieldContainer[PerceivedAttribute]
    scene: _containers.ScalarMap[str, float]
    quality_components: _containers.ScalarMap[str, float]
    def __init__(self, status: _Optional[_Union[_common_pb2.FaceStatus, str]] = ..., faces_found: _Optional[int] = ..., box: _Optional[_Iterable[float]] = ..., landmarks: _Optional[_Iterable[float]] = ..., quality: _Optional[float] = ..., perceived: _Optional[_Iterable[_Union[PerceivedAttribute, _Mapping]]] = ..., scene: _Optional[_Mapping[str, float]] = ..., quality_components: _Optional[_Mapping[str, float]] = ...) -> None: ...

class AnnotatedImage(_message.Message):
    __slots__ = ("item_id", "face", "error", "more_faces")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MORE_FACES_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    face: FaceDescription
    error: _status_pb2.Status
    more_faces: _containers.RepeatedCompositeFieldContainer[FaceDescription]
    def __init__(self, item_id: _Optional[str] = ..., face: _Optional[_Union[FaceDescription, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., more_faces: _Optional[_Iterable[_Union[FaceDescription, _Mapping]]] = ...) -> None: ...

class AnnotateImagesRequest(_message.Message):
    __slots__ = ("images", "annotators", "attributes", "cropped", "face_policy")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CROPPED_FIELD_NUMBER: _ClassVar[int]
    FACE_POLICY_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageItem]
    annotators: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    cropped: bool
    face_policy: FacePolicy
    def __init__(self, images: _Optional[_Iterable[_Union[ImageItem, _Mapping]]] = ..., annotators: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Iterable[str]] = ..., cropped: _Optional[bool] = ..., face_policy: _Optional[_Union[FacePolicy, str]] = ...) -> None: ...

class AnnotateImagesResponse(_message.Message):
    __slots__ = ("images", "annotators")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[AnnotatedImage]
    annotators: _containers.RepeatedCompositeFieldContainer[AnnotatorInfo]
    def __init__(self, images: _Optional[_Iterable[_Union[AnnotatedImage, _Mapping]]] = ..., annotators: _Optional[_Iterable[_Union[AnnotatorInfo, _Mapping]]] = ...) -> None: ...

class StreamAnnotateRequest(_message.Message):
    __slots__ = ("images", "annotators", "attributes", "face_policy")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    FACE_POLICY_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageItem]
    annotators: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    face_policy: FacePolicy
    def __init__(self, images: _Optional[_Iterable[_Union[ImageItem, _Mapping]]] = ..., annotators: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Iterable[str]] = ..., face_policy: _Optional[_Union[FacePolicy, str]] = ...) -> None: ...

class StreamAnnotateResponse(_message.Message):
    __slots__ = ("images", "annotators")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[AnnotatedImage]
    annotators: _containers.RepeatedCompositeFieldContainer[AnnotatorInfo]
    def __init__(self, images: _Optional[_Iterable[_Union[AnnotatedImage, _Mapping]]] = ..., annotators: _Optional[_Iterable[_Union[AnnotatorInfo, _Mapping]]] = ...) -> None: ...

class AnnotateRequest(_message.Message):
    __slots__ = ("dataset", "annotators", "request_id", "detached", "attributes", "cropped", "use", "face_policy", "quality_gate")
    class QualityGateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    CROPPED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    FACE_POLICY_FIELD_NUMBER: _ClassVar[int]
    QUALITY_GATE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    annotators: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    detached: bool
    attributes: _containers.RepeatedScalarFieldContainer[str]
    cropped: bool
    use: _common_pb2.Use
    face_policy: FacePolicy
    quality_gate: _containers.ScalarMap[str, float]
    def __init__(self, dataset: _Optional[str] = ..., annotators: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., attributes: _Optional[_Iterable[str]] = ..., cropped: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., face_policy: _Optional[_Union[FacePolicy, str]] = ..., quality_gate: _Optional[_Mapping[str, float]] = ...) -> None: ...

class GateRejection(_message.Message):
    __slots__ = ("group", "faces", "rejected", "low", "high")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    group: str
    faces: int
    rejected: int
    low: float
    high: float
    def __init__(self, group: _Optional[str] = ..., faces: _Optional[int] = ..., rejected: _Optional[int] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class AnnotateResult(_message.Message):
    __slots__ = ("annotations", "images", "statuses", "annotators", "faces", "rejections")
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    FACES_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    images: int
    statuses: _containers.ScalarMap[str, int]
    annotators: _containers.RepeatedCompositeFieldContainer[AnnotatorInfo]
    faces: int
    rejections: _containers.RepeatedCompositeFieldContainer[GateRejection]
    def __init__(self, annotations: _Optional[str] = ..., images: _Optional[int] = ..., statuses: _Optional[_Mapping[str, int]] = ..., annotators: _Optional[_Iterable[_Union[AnnotatorInfo, _Mapping]]] = ..., faces: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[GateRejection, _Mapping]]] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("dataset", "sources", "groups", "changes", "cropped", "seed", "replicates", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    CROPPED_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICATES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    groups: _containers.RepeatedScalarFieldContainer[str]
    changes: _containers.RepeatedScalarFieldContainer[str]
    cropped: bool
    seed: int
    replicates: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., groups: _Optional[_Iterable[str]] = ..., changes: _Optional[_Iterable[str]] = ..., cropped: _Optional[bool] = ..., seed: _Optional[int] = ..., replicates: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class CalibrateResult(_message.Message):
    __slots__ = ("calibration", "images", "sources", "summary_json", "warnings")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_JSON_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    images: int
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    summary_json: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, calibration: _Optional[str] = ..., images: _Optional[int] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., summary_json: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class LayerInfo(_message.Message):
    __slots__ = ("name", "type", "shape", "units", "parameters", "runs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    units: int
    parameters: int
    runs: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., units: _Optional[int] = ..., parameters: _Optional[int] = ..., runs: _Optional[int] = ...) -> None: ...

class ListLayersRequest(_message.Message):
    __slots__ = ("network", "page_size", "page_token")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    network: str
    page_size: int
    page_token: str
    def __init__(self, network: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLayersResponse(_message.Message):
    __slots__ = ("layers", "next_page_token", "network", "input_shape")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    INPUT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerInfo]
    next_page_token: str
    network: str
    input_shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., network: _Optional[str] = ..., input_shape: _Optional[_Iterable[int]] = ...) -> None: ...

class UnitMask(_message.Message):
    __slots__ = ("layer", "units", "factor", "values")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    layer: str
    units: _containers.RepeatedScalarFieldContainer[int]
    factor: float
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, layer: _Optional[str] = ..., units: _Optional[_Iterable[int]] = ..., factor: _Optional[float] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class ExtractActivationsRequest(_message.Message):
    __slots__ = ("dataset", "network", "layers", "pooling", "framing", "masks", "groups", "annotations", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    POOLING_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    network: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    pooling: Pooling
    framing: Framing
    masks: _containers.RepeatedCompositeFieldContainer[UnitMask]
    groups: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    annotations: str
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., network: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., pooling: _Optional[_Union[Pooling, str]] = ..., framing: _Optional[_Union[Framing, str]] = ..., masks: _Optional[_Iterable[_Union[UnitMask, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., annotations: _Optional[str] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class ExtractedLayer(_message.Message):
    __slots__ = ("name", "type", "shape", "units", "column")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    units: int
    column: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., units: _Optional[int] = ..., column: _Optional[str] = ...) -> None: ...

class MaskEffect(_message.Message):
    __slots__ = ("attribute", "group", "images", "changed", "low", "high", "mean_cosine")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    MEAN_COSINE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    group: str
    images: int
    changed: int
    low: float
    high: float
    mean_cosine: float
    def __init__(self, attribute: _Optional[str] = ..., group: _Optional[str] = ..., images: _Optional[int] = ..., changed: _Optional[int] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., mean_cosine: _Optional[float] = ...) -> None: ...

class UnitSelectivity(_message.Message):
    __slots__ = ("layer", "unit", "group", "images", "rest", "difference", "difference_low", "difference_high", "auc", "auc_low", "auc_high", "p_holm")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    REST_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_LOW_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_HIGH_FIELD_NUMBER: _ClassVar[int]
    AUC_FIELD_NUMBER: _ClassVar[int]
    AUC_LOW_FIELD_NUMBER: _ClassVar[int]
    AUC_HIGH_FIELD_NUMBER: _ClassVar[int]
    P_HOLM_FIELD_NUMBER: _ClassVar[int]
    layer: str
    unit: int
    group: str
    images: int
    rest: int
    difference: float
    difference_low: float
    difference_high: float
    auc: float
    auc_low: float
    auc_high: float
    p_holm: float
    def __init__(self, layer: _Optional[str] = ..., unit: _Optional[int] = ..., group: _Optional[str] = ..., images: _Optional[int] = ..., rest: _Optional[int] = ..., difference: _Optional[float] = ..., difference_low: _Optional[float] = ..., difference_high: _Optional[float] = ..., auc: _Optional[float] = ..., auc_low: _Optional[float] = ..., auc_high: _Optional[float] = ..., p_holm: _Optional[float] = ...) -> None: ...

class ExtractActivationsResult(_message.Message):
    __slots__ = ("activations", "images", "statuses", "network", "layers", "effects", "selective", "warnings")
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    SELECTIVE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    activations: str
    images: int
    statuses: _containers.ScalarMap[str, int]
    network: str
    layers: _containers.RepeatedCompositeFieldContainer[ExtractedLayer]
    effects: _containers.RepeatedCompositeFieldContainer[MaskEffect]
    selective: _containers.RepeatedCompositeFieldContainer[UnitSelectivity]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, activations: _Optional[str] = ..., images: _Optional[int] = ..., statuses: _Optional[_Mapping[str, int]] = ..., network: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[ExtractedLayer, _Mapping]]] = ..., effects: _Optional[_Iterable[_Union[MaskEffect, _Mapping]]] = ..., selective: _Optional[_Iterable[_Union[UnitSelectivity, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class ImageDemand(_message.Message):
    __slots__ = ("cell", "source", "count")
    CELL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    cell: str
    source: str
    count: int
    def __init__(self, cell: _Optional[str] = ..., source: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ClassifierOptions(_message.Message):
    __slots__ = ("epochs", "batch_size", "learning_rate", "epoch_images", "patience", "loss", "worst_share", "worst_share_within", "class_weights", "trained", "alignment", "group_by", "validation_share", "test_share", "take_what_there_is", "robustness")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_IMAGES_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    WORST_SHARE_FIELD_NUMBER: _ClassVar[int]
    WORST_SHARE_WITHIN_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SHARE_FIELD_NUMBER: _ClassVar[int]
    TEST_SHARE_FIELD_NUMBER: _ClassVar[int]
    TAKE_WHAT_THERE_IS_FIELD_NUMBER: _ClassVar[int]
    ROBUSTNESS_FIELD_NUMBER: _ClassVar[int]
    epochs: int
    batch_size: int
    learning_rate: float
    epoch_images: int
    patience: int
    loss: ClassifierLoss
    worst_share: float
    worst_share_within: float
    class_weights: bool
    trained: ClassifierTrained
    alignment: ClassifierAlignment
    group_by: _containers.RepeatedScalarFieldContainer[str]
    validation_share: float
    test_share: float
    take_what_there_is: bool
    robustness: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., epoch_images: _Optional[int] = ..., patience: _Optional[int] = ..., loss: _Optional[_Union[ClassifierLoss, str]] = ..., worst_share: _Optional[float] = ..., worst_share_within: _Optional[float] = ..., class_weights: _Optional[bool] = ..., trained: _Optional[_Union[ClassifierTrained, str]] = ..., alignment: _Optional[_Union[ClassifierAlignment, str]] = ..., group_by: _Optional[_Iterable[str]] = ..., validation_share: _Optional[float] = ..., test_share: _Optional[float] = ..., take_what_there_is: _Optional[bool] = ..., robustness: _Optional[_Iterable[str]] = ...) -> None: ...

class TrainClassifierRequest(_message.Message):
    __slots__ = ("dataset", "target_model", "attribute", "base", "architecture", "composition", "validation_dataset", "test_dataset", "seed", "options", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    COMPOSITION_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_DATASET_FIELD_NUMBER: _ClassVar[int]
    TEST_DATASET_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    target_model: str
    attribute: str
    base: str
    architecture: str
    composition: _containers.RepeatedCompositeFieldContainer[ImageDemand]
    validation_dataset: str
    test_dataset: str
    seed: int
    options: ClassifierOptions
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., target_model: _Optional[str] = ..., attribute: _Optional[str] = ..., base: _Optional[str] = ..., architecture: _Optional[str] = ..., composition: _Optional[_Iterable[_Union[ImageDemand, _Mapping]]] = ..., validation_dataset: _Optional[str] = ..., test_dataset: _Optional[str] = ..., seed: _Optional[int] = ..., options: _Optional[_Union[ClassifierOptions, _Mapping]] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class TrainClassifierResult(_message.Message):
    __slots__ = ("model", "predictions", "epochs", "best_epoch", "train_images", "validation_images", "test_images", "without_label", "without_face", "lacking", "accuracy", "accuracy_low", "accuracy_high", "evaluation_json")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BEST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRAIN_IMAGES_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TEST_IMAGES_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_LABEL_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_FACE_FIELD_NUMBER: _ClassVar[int]
    LACKING_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_LOW_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_HIGH_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_JSON_FIELD_NUMBER: _ClassVar[int]
    model: str
    predictions: str
    epochs: int
    best_epoch: int
    train_images: int
    validation_images: int
    test_images: int
    without_label: int
    without_face: int
    lacking: _containers.RepeatedCompositeFieldContainer[ImageDemand]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    evaluation_json: str
    def __init__(self, model: _Optional[str] = ..., predictions: _Optional[str] = ..., epochs: _Optional[int] = ..., best_epoch: _Optional[int] = ..., train_images: _Optional[int] = ..., validation_images: _Optional[int] = ..., test_images: _Optional[int] = ..., without_label: _Optional[int] = ..., without_face: _Optional[int] = ..., lacking: _Optional[_Iterable[_Union[ImageDemand, _Mapping]]] = ..., accuracy: _Optional[float] = ..., accuracy_low: _Optional[float] = ..., accuracy_high: _Optional[float] = ..., evaluation_json: _Optional[str] = ...) -> None: ...
