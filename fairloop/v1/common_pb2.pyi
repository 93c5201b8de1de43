import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FaceStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FACE_STATUS_UNSPECIFIED: _ClassVar[FaceStatus]
    FACE_STATUS_OK: _ClassVar[FaceStatus]
    FACE_STATUS_NO_FACE: _ClassVar[FaceStatus]
    FACE_STATUS_SEVERAL_FACES: _ClassVar[FaceStatus]
    FACE_STATUS_CORRUPT: _ClassVar[FaceStatus]
    FACE_STATUS_TOO_LARGE: _ClassVar[FaceStatus]

class OperationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATION_STATE_UNSPECIFIED: _ClassVar[OperationState]
    OPERATION_STATE_PENDING: _ClassVar[OperationState]
    OPERATION_STATE_RUNNING: _ClassVar[OperationState]
    OPERATION_STATE_SUSPENDED: _ClassVar[OperationState]
    OPERATION_STATE_SUCCEEDED: _ClassVar[OperationState]
    OPERATION_STATE_FAILED: _ClassVar[OperationState]
    OPERATION_STATE_CANCELLED: _ClassVar[OperationState]
FACE_STATUS_UNSPECIFIED: FaceStatus
FACE_STATUS_OK: FaceStatus
FACE_STATUS_NO_FACE: FaceStatus
FACE_STATUS_SEVERAL_FACES: FaceStatus
FACE_STATUS_CORRUPT: FaceStatus
FACE_STATUS_TOO_LARGE: FaceStatus
OPERATION_STATE_UNSPECIFIED: OperationState
OPERATION_STATE_PENDING: OperationState
OPERATION_STATE_RUNNING: OperationState
OPERATION_STATE_SUSPENDED: OperationState
OPERATION_STATE_SUCCEEDED: OperationState
OPERATION_STATE_FAILED: OperationState
OPERATION_STATE_CANCELLED: OperationState

class LabelSource(_message.Message):
    __slots__ = ("attribute", "annotator", "version")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    annotator: str
    version: str
    def __init__(self, attribute: _Optional[str] = ..., annotator: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Use(_message.Message):
    __slots__ = ("policy", "acknowledge")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    acknowledge: str
    def __init__(self, policy: _Optional[str] = ..., acknowledge: _Optional[str] = ...) -> None: ...

class LicenceTerms(_message.Message):
    __slots__ = ("licence", "commercial", "derivatives", "redistribution", "consent", "purpose")
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    COMMERCIAL_FIELD_NUMBER: _ClassVar[int]
    DERIVATIVES_FIELD_NUMBER: _ClassVar[int]
    REDISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    licence: str
    commercial: str
    derivatives: str
    redistribution: str
    consent: str
    purpose: str
    def __init__(self, licence: _Optional[str] = ..., commercial: _Optional[str] = ..., derivatives: _Optional[str] = ..., redistribution: _Optional[str] = ..., consent: _Optional[str] = ..., purpose: _Optional[str] = ...) -> None: ...

class OperationMetadata(_message.Message):
    __slots__ = ("method", "state", "attempt", "owner", "stage", "done", "total", "unit", "rate", "eta_seconds", "create_time", "update_time", "measures", "caller", "flow_run")
    class MeasuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    FLOW_RUN_FIELD_NUMBER: _ClassVar[int]
    method: str
    state: OperationState
    attempt: int
    owner: str
    stage: str
    done: int
    total: int
    unit: str
    rate: float
    eta_seconds: float
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    measures: _containers.ScalarMap[str, float]
    caller: str
    flow_run: str
    def __init__(self, method: _Optional[str] = ..., state: _Optional[_Union[OperationState, str]] = ..., attempt: _Optional[int] = ..., owner: _Optional[str] = ..., stage: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., rate: _Optional[float] = ..., eta_seconds: _Optional[float] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., measures: _Optional[_Mapping[str, float]] = ..., caller: _Optional[str] = ..., flow_run: _Optional[str] = ...) -> None: ...

class RunShardRequest(_message.Message):
    __slots__ = ("operation", "attempt", "index", "spec", "hint", "recipe")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    operation: str
    attempt: int
    index: int
    spec: str
    hint: str
    recipe: str
    def __init__(self, operation: _Optional[str] = ..., attempt: _Optional[int] = ..., index: _Optional[int] = ..., spec: _Optional[str] = ..., hint: _Optional[str] = ..., recipe: _Optional[str] = ...) -> None: ...

class RunShardResponse(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: str
    def __init__(self, record: _Optional[str] = ...) -> None: ...
