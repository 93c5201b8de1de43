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
FACE_POLICY_UNSPECIFIED: FacePolicy
FACE_POLICY_LARGEST: FacePolicy
FACE_POLICY_MOST_CENTRAL: FacePolicy
FACE_POLICY_ALL: FacePolicy
FACE_POLICY_REFUSE: FacePolicy

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
    __slots__ = ("name", "version", "attributes", "description", "weights")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    attributes: _containers.RepeatedScalarFieldContainer[str]
    description: str
    weights: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., attributes: _Optional[_Iterable[str]] = ..., description: _Optional[str] = ..., weights: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAnnotatorsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAnnotatorsResponse(_message.Message):
    __slots__ = ("annotators", "next_page_token", "unavailable")
    ANNOTATORS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    annotators: _containers.RepeatedCompositeFieldContainer[AnnotatorInfo]
    next_page_token: str
    unavailable: _containers.RepeatedCompositeFieldContainer[UnavailableAnnotator]
    def __init__(self, annotators: _Optional[_Iterable[_Union[AnnotatorInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unavailable: _Optional[_Iterable[_Union[UnavailableAnnotator, _Mapping]]] = ...) -> None: ...

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
