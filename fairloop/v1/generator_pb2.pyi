from fairloop.v1 import common_pb2 as _common_pb2
from google.longrunning import operations_pb2 as _operations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DiffusionSchedule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIFFUSION_SCHEDULE_UNSPECIFIED: _ClassVar[DiffusionSchedule]
    DIFFUSION_SCHEDULE_LINEAR: _ClassVar[DiffusionSchedule]
    DIFFUSION_SCHEDULE_COSINE: _ClassVar[DiffusionSchedule]
    DIFFUSION_SCHEDULE_COSINE_WITH_RESTARTS: _ClassVar[DiffusionSchedule]
    DIFFUSION_SCHEDULE_POLYNOMIAL: _ClassVar[DiffusionSchedule]
    DIFFUSION_SCHEDULE_CONSTANT: _ClassVar[DiffusionSchedule]
    DIFFUSION_SCHEDULE_CONSTANT_WITH_WARMUP: _ClassVar[DiffusionSchedule]

class MixedPrecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIXED_PRECISION_UNSPECIFIED: _ClassVar[MixedPrecision]
    MIXED_PRECISION_NO: _ClassVar[MixedPrecision]
    MIXED_PRECISION_FP16: _ClassVar[MixedPrecision]
    MIXED_PRECISION_BF16: _ClassVar[MixedPrecision]

class DiffusionPrediction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIFFUSION_PREDICTION_UNSPECIFIED: _ClassVar[DiffusionPrediction]
    DIFFUSION_PREDICTION_EPSILON: _ClassVar[DiffusionPrediction]
    DIFFUSION_PREDICTION_V_PREDICTION: _ClassVar[DiffusionPrediction]
DIFFUSION_SCHEDULE_UNSPECIFIED: DiffusionSchedule
DIFFUSION_SCHEDULE_LINEAR: DiffusionSchedule
DIFFUSION_SCHEDULE_COSINE: DiffusionSchedule
DIFFUSION_SCHEDULE_COSINE_WITH_RESTARTS: DiffusionSchedule
DIFFUSION_SCHEDULE_POLYNOMIAL: DiffusionSchedule
DIFFUSION_SCHEDULE_CONSTANT: DiffusionSchedule
DIFFUSION_SCHEDULE_CONSTANT_WITH_WARMUP: DiffusionSchedule
MIXED_PRECISION_UNSPECIFIED: MixedPrecision
MIXED_PRECISION_NO: MixedPrecision
MIXED_PRECISION_FP16: MixedPrecision
MIXED_PRECISION_BF16: MixedPrecision
DIFFUSION_PREDICTION_UNSPECIFIED: DiffusionPrediction
DIFFUSION_PREDICTION_EPSILON: DiffusionPrediction
DIFFUSION_PREDICTION_V_PREDICTION: DiffusionPrediction

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

class Diffusion(_message.Message):
    __slots__ = ("prompt_template", "negative_prompt", "steps", "guidance", "scheduler", "width", "height", "without_safety_checker", "max_redraws", "truncate_prompts", "batch")
    PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_SAFETY_CHECKER_FIELD_NUMBER: _ClassVar[int]
    MAX_REDRAWS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    prompt_template: str
    negative_prompt: str
    steps: int
    guidance: float
    scheduler: str
    width: int
    height: int
    without_safety_checker: bool
    max_redraws: int
    truncate_prompts: bool
    batch: int
    def __init__(self, prompt_template: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ..., scheduler: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., without_safety_checker: _Optional[bool] = ..., max_redraws: _Optional[int] = ..., truncate_prompts: _Optional[bool] = ..., batch: _Optional[int] = ...) -> None: ...

class PromptItem(_message.Message):
    __slots__ = ("prompt_id", "prompt", "images", "cell")
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    prompt_id: str
    prompt: str
    images: int
    cell: str
    def __init__(self, prompt_id: _Optional[str] = ..., prompt: _Optional[str] = ..., images: _Optional[int] = ..., cell: _Optional[str] = ...) -> None: ...

class PreviewRequest(_message.Message):
    __slots__ = ("model", "cell", "latent", "text", "count", "seed", "first_subject", "within_subject", "diffusion", "report_steps")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    WITHIN_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DIFFUSION_FIELD_NUMBER: _ClassVar[int]
    REPORT_STEPS_FIELD_NUMBER: _ClassVar[int]
    model: str
    cell: str
    latent: Latent
    text: str
    count: int
    seed: int
    first_subject: int
    within_subject: float
    diffusion: Diffusion
    report_steps: bool
    def __init__(self, model: _Optional[str] = ..., cell: _Optional[str] = ..., latent: _Optional[_Union[Latent, _Mapping]] = ..., text: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., first_subject: _Optional[int] = ..., within_subject: _Optional[float] = ..., diffusion: _Optional[_Union[Diffusion, _Mapping]] = ..., report_steps: _Optional[bool] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("index", "image", "subject", "cell", "latent", "model", "step", "steps", "redraws", "prompt")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CELL_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    REDRAWS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    index: int
    image: bytes
    subject: int
    cell: str
    latent: Latent
    model: str
    step: int
    steps: int
    redraws: int
    prompt: str
    def __init__(self, index: _Optional[int] = ..., image: _Optional[bytes] = ..., subject: _Optional[int] = ..., cell: _Optional[str] = ..., latent: _Optional[_Union[Latent, _Mapping]] = ..., model: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., redraws: _Optional[int] = ..., prompt: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("model", "quotas", "seed", "acceptance", "within_subject", "dataset", "request_id", "detached", "first_subject", "purpose", "use", "diffusion", "prompts")
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
    DIFFUSION_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
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
    diffusion: Diffusion
    prompts: _containers.RepeatedCompositeFieldContainer[PromptItem]
    def __init__(self, model: _Optional[str] = ..., quotas: _Optional[_Iterable[_Union[Quota, _Mapping]]] = ..., seed: _Optional[int] = ..., acceptance: _Optional[_Union[Acceptance, _Mapping]] = ..., within_subject: _Optional[float] = ..., dataset: _Optional[str] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., first_subject: _Optional[int] = ..., purpose: _Optional[str] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., diffusion: _Optional[_Union[Diffusion, _Mapping]] = ..., prompts: _Optional[_Iterable[_Union[PromptItem, _Mapping]]] = ...) -> None: ...

class QuotaResult(_message.Message):
    __slots__ = ("cell", "subjects_wanted", "subjects", "images", "candidate_subjects", "candidate_images", "no_face", "prompt_id", "black", "refused")
    CELL_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_WANTED_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    NO_FACE_FIELD_NUMBER: _ClassVar[int]
    YIELD_FIELD_NUMBER: _ClassVar[int]
    PROMPT_ID_FIELD_NUMBER: _ClassVar[int]
    BLACK_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    cell: str
    subjects_wanted: int
    subjects: int
    images: int
    candidate_subjects: int
    candidate_images: int
    no_face: int
    prompt_id: str
    black: int
    refused: int
    def __init__(self, cell: _Optional[str] = ..., subjects_wanted: _Optional[int] = ..., subjects: _Optional[int] = ..., images: _Optional[int] = ..., candidate_subjects: _Optional[int] = ..., candidate_images: _Optional[int] = ..., no_face: _Optional[int] = ..., prompt_id: _Optional[str] = ..., black: _Optional[int] = ..., refused: _Optional[int] = ..., **kwargs) -> None: ...

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

class RegenerateRequest(_message.Message):
    __slots__ = ("dataset", "count", "seed", "request_id", "detached", "use")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    count: int
    seed: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    def __init__(self, dataset: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ...) -> None: ...

class RegeneratedImage(_message.Message):
    __slots__ = ("image_id", "equal", "greatest_difference", "mean_difference")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    GREATEST_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    equal: bool
    greatest_difference: int
    mean_difference: float
    def __init__(self, image_id: _Optional[str] = ..., equal: _Optional[bool] = ..., greatest_difference: _Optional[int] = ..., mean_difference: _Optional[float] = ...) -> None: ...

class RegenerateResult(_message.Message):
    __slots__ = ("dataset", "model", "images", "same_profile", "differences", "tolerance", "kept")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SAME_PROFILE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    model: str
    images: _containers.RepeatedCompositeFieldContainer[RegeneratedImage]
    same_profile: bool
    differences: _containers.RepeatedScalarFieldContainer[str]
    tolerance: float
    kept: bool
    def __init__(self, dataset: _Optional[str] = ..., model: _Optional[str] = ..., images: _Optional[_Iterable[_Union[RegeneratedImage, _Mapping]]] = ..., same_profile: _Optional[bool] = ..., differences: _Optional[_Iterable[str]] = ..., tolerance: _Optional[float] = ..., kept: _Optional[bool] = ...) -> None: ...

class LatentSampler(_message.Message):
    __slots__ = ("annotations", "sources", "attributes", "target", "max_shift", "without_nuisances")
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
    WITHOUT_NUISANCES_FIELD_NUMBER: _ClassVar[int]
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    target: _containers.ScalarMap[str, float]
    max_shift: float
    without_nuisances: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., attributes: _Optional[_Iterable[str]] = ..., target: _Optional[_Mapping[str, float]] = ..., max_shift: _Optional[float] = ..., without_nuisances: _Optional[_Iterable[str]] = ...) -> None: ...

class Gan(_message.Message):
    __slots__ = ("image_size", "latent", "epochs", "batch_size", "learning_rate", "beta1", "beta2", "sample_steps", "checkpoint_steps", "max_steps", "attributes", "annotations", "sources", "feature_maps")
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    FEATURE_MAPS_FIELD_NUMBER: _ClassVar[int]
    image_size: int
    latent: int
    epochs: int
    batch_size: int
    learning_rate: float
    beta1: float
    beta2: float
    sample_steps: int
    checkpoint_steps: int
    max_steps: int
    attributes: _containers.RepeatedScalarFieldContainer[str]
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    feature_maps: int
    def __init__(self, image_size: _Optional[int] = ..., latent: _Optional[int] = ..., epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., sample_steps: _Optional[int] = ..., checkpoint_steps: _Optional[int] = ..., max_steps: _Optional[int] = ..., attributes: _Optional[_Iterable[str]] = ..., annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., feature_maps: _Optional[int] = ...) -> None: ...

class DiffusionTraining(_message.Message):
    __slots__ = ("resolution", "centre_crop", "flip", "batch_size", "accumulation", "max_steps", "epochs", "learning_rate", "scale_learning_rate", "schedule", "warmup_steps", "cycles", "power", "adam_8bit", "beta1", "beta2", "weight_decay", "epsilon", "max_gradient_norm", "ema", "ema_decay", "gradient_checkpointing", "mixed_precision", "allow_tf32", "prediction", "snr_gamma", "noise_offset", "input_perturbation", "lora_rank", "lora_alpha", "train_text_encoder", "truncate", "lora", "checkpoint_steps", "checkpoint_limit", "validation_prompts", "validation_steps", "max_samples", "caption_template", "annotations", "sources", "balance")
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    CENTRE_CROP_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATION_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SCALE_LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_STEPS_FIELD_NUMBER: _ClassVar[int]
    CYCLES_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    ADAM_8BIT_FIELD_NUMBER: _ClassVar[int]
    BETA1_FIELD_NUMBER: _ClassVar[int]
    BETA2_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    MAX_GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    EMA_FIELD_NUMBER: _ClassVar[int]
    EMA_DECAY_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    MIXED_PRECISION_FIELD_NUMBER: _ClassVar[int]
    ALLOW_TF32_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    SNR_GAMMA_FIELD_NUMBER: _ClassVar[int]
    NOISE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    INPUT_PERTURBATION_FIELD_NUMBER: _ClassVar[int]
    LORA_RANK_FIELD_NUMBER: _ClassVar[int]
    LORA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    TRAIN_TEXT_ENCODER_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CAPTION_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    resolution: int
    centre_crop: bool
    flip: bool
    batch_size: int
    accumulation: int
    max_steps: int
    epochs: int
    learning_rate: float
    scale_learning_rate: bool
    schedule: DiffusionSchedule
    warmup_steps: int
    cycles: int
    power: float
    adam_8bit: bool
    beta1: float
    beta2: float
    weight_decay: float
    epsilon: float
    max_gradient_norm: float
    ema: bool
    ema_decay: float
    gradient_checkpointing: bool
    mixed_precision: MixedPrecision
    allow_tf32: bool
    prediction: DiffusionPrediction
    snr_gamma: float
    noise_offset: float
    input_perturbation: float
    lora_rank: int
    lora_alpha: int
    train_text_encoder: bool
    truncate: bool
    lora: str
    checkpoint_steps: int
    checkpoint_limit: int
    validation_prompts: _containers.RepeatedScalarFieldContainer[str]
    validation_steps: int
    max_samples: int
    caption_template: str
    annotations: str
    sources: _containers.RepeatedCompositeFieldContainer[_common_pb2.LabelSource]
    balance: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, resolution: _Optional[int] = ..., centre_crop: _Optional[bool] = ..., flip: _Optional[bool] = ..., batch_size: _Optional[int] = ..., accumulation: _Optional[int] = ..., max_steps: _Optional[int] = ..., epochs: _Optional[int] = ..., learning_rate: _Optional[float] = ..., scale_learning_rate: _Optional[bool] = ..., schedule: _Optional[_Union[DiffusionSchedule, str]] = ..., warmup_steps: _Optional[int] = ..., cycles: _Optional[int] = ..., power: _Optional[float] = ..., adam_8bit: _Optional[bool] = ..., beta1: _Optional[float] = ..., beta2: _Optional[float] = ..., weight_decay: _Optional[float] = ..., epsilon: _Optional[float] = ..., max_gradient_norm: _Optional[float] = ..., ema: _Optional[bool] = ..., ema_decay: _Optional[float] = ..., gradient_checkpointing: _Optional[bool] = ..., mixed_precision: _Optional[_Union[MixedPrecision, str]] = ..., allow_tf32: _Optional[bool] = ..., prediction: _Optional[_Union[DiffusionPrediction, str]] = ..., snr_gamma: _Optional[float] = ..., noise_offset: _Optional[float] = ..., input_perturbation: _Optional[float] = ..., lora_rank: _Optional[int] = ..., lora_alpha: _Optional[int] = ..., train_text_encoder: _Optional[bool] = ..., truncate: _Optional[bool] = ..., lora: _Optional[str] = ..., checkpoint_steps: _Optional[int] = ..., checkpoint_limit: _Optional[int] = ..., validation_prompts: _Optional[_Iterable[str]] = ..., validation_steps: _Optional[int] = ..., max_samples: _Optional[int] = ..., caption_template: _Optional[str] = ..., annotations: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[_common_pb2.LabelSource, _Mapping]]] = ..., balance: _Optional[_Iterable[str]] = ...) -> None: ...

class TextToImage(_message.Message):
    __slots__ = ("training", "preset")
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    training: DiffusionTraining
    preset: str
    def __init__(self, training: _Optional[_Union[DiffusionTraining, _Mapping]] = ..., preset: _Optional[str] = ...) -> None: ...

class DreamBooth(_message.Message):
    __slots__ = ("training", "preset", "instance_prompt", "class_prompt", "class_dataset", "class_images", "prior_weight", "vae", "class_inference_steps", "class_guidance", "grid")
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLASS_PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLASS_DATASET_FIELD_NUMBER: _ClassVar[int]
    CLASS_IMAGES_FIELD_NUMBER: _ClassVar[int]
    PRIOR_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    VAE_FIELD_NUMBER: _ClassVar[int]
    CLASS_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    CLASS_GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    training: DiffusionTraining
    preset: str
    instance_prompt: str
    class_prompt: str
    class_dataset: str
    class_images: int
    prior_weight: float
    vae: str
    class_inference_steps: int
    class_guidance: float
    grid: _containers.RepeatedCompositeFieldContainer[DreamBoothRun]
    def __init__(self, training: _Optional[_Union[DiffusionTraining, _Mapping]] = ..., preset: _Optional[str] = ..., instance_prompt: _Optional[str] = ..., class_prompt: _Optional[str] = ..., class_dataset: _Optional[str] = ..., class_images: _Optional[int] = ..., prior_weight: _Optional[float] = ..., vae: _Optional[str] = ..., class_inference_steps: _Optional[int] = ..., class_guidance: _Optional[float] = ..., grid: _Optional[_Iterable[_Union[DreamBoothRun, _Mapping]]] = ...) -> None: ...

class DreamBoothRun(_message.Message):
    __slots__ = ("name", "schedule", "class_images", "max_steps")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    CLASS_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    schedule: DiffusionSchedule
    class_images: int
    max_steps: int
    def __init__(self, name: _Optional[str] = ..., schedule: _Optional[_Union[DiffusionSchedule, str]] = ..., class_images: _Optional[int] = ..., max_steps: _Optional[int] = ...) -> None: ...

class FineTuneGeneratorRequest(_message.Message):
    __slots__ = ("model", "target_model", "latent_sampler", "gan", "text_to_image", "dreambooth", "seed", "request_id", "detached", "use", "dataset", "dry_run")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENT_SAMPLER_FIELD_NUMBER: _ClassVar[int]
    GAN_FIELD_NUMBER: _ClassVar[int]
    TEXT_TO_IMAGE_FIELD_NUMBER: _ClassVar[int]
    DREAMBOOTH_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    model: str
    target_model: str
    latent_sampler: LatentSampler
    gan: Gan
    text_to_image: TextToImage
    dreambooth: DreamBooth
    seed: int
    request_id: str
    detached: bool
    use: _common_pb2.Use
    dataset: str
    dry_run: bool
    def __init__(self, model: _Optional[str] = ..., target_model: _Optional[str] = ..., latent_sampler: _Optional[_Union[LatentSampler, _Mapping]] = ..., gan: _Optional[_Union[Gan, _Mapping]] = ..., text_to_image: _Optional[_Union[TextToImage, _Mapping]] = ..., dreambooth: _Optional[_Union[DreamBooth, _Mapping]] = ..., seed: _Optional[int] = ..., request_id: _Optional[str] = ..., detached: _Optional[bool] = ..., use: _Optional[_Union[_common_pb2.Use, _Mapping]] = ..., dataset: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("steps", "seconds_per_step", "timed_steps", "seconds", "memory_bytes", "disk_bytes", "store_bytes", "device", "text")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    TIMED_STEPS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    steps: int
    seconds_per_step: float
    timed_steps: int
    seconds: float
    memory_bytes: int
    disk_bytes: int
    store_bytes: int
    device: str
    text: str
    def __init__(self, steps: _Optional[int] = ..., seconds_per_step: _Optional[float] = ..., timed_steps: _Optional[int] = ..., seconds: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., store_bytes: _Optional[int] = ..., device: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

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

class DiffusionRun(_message.Message):
    __slots__ = ("name", "model", "steps", "images", "left_out", "class_images", "parameters", "loss", "schedule")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    CLASS_IMAGES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    steps: int
    images: int
    left_out: int
    class_images: int
    parameters: int
    loss: float
    schedule: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., steps: _Optional[int] = ..., images: _Optional[int] = ..., left_out: _Optional[int] = ..., class_images: _Optional[int] = ..., parameters: _Optional[int] = ..., loss: _Optional[float] = ..., schedule: _Optional[str] = ...) -> None: ...

class FineTuneGeneratorResult(_message.Message):
    __slots__ = ("model", "images", "cells", "nuisances", "fit", "plan", "steps", "generator_loss", "discriminator_loss", "runs", "class_dataset")
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
    PLAN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_LOSS_FIELD_NUMBER: _ClassVar[int]
    DISCRIMINATOR_LOSS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    CLASS_DATASET_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: int
    cells: _containers.RepeatedCompositeFieldContainer[CellShare]
    nuisances: _containers.RepeatedCompositeFieldContainer[NuisanceShift]
    fit: _containers.ScalarMap[str, float]
    plan: Plan
    steps: int
    generator_loss: float
    discriminator_loss: float
    runs: _containers.RepeatedCompositeFieldContainer[DiffusionRun]
    class_dataset: str
    def __init__(self, model: _Optional[str] = ..., images: _Optional[int] = ..., cells: _Optional[_Iterable[_Union[CellShare, _Mapping]]] = ..., nuisances: _Optional[_Iterable[_Union[NuisanceShift, _Mapping]]] = ..., fit: _Optional[_Mapping[str, float]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., steps: _Optional[int] = ..., generator_loss: _Optional[float] = ..., discriminator_loss: _Optional[float] = ..., runs: _Optional[_Iterable[_Union[DiffusionRun, _Mapping]]] = ..., class_dataset: _Optional[str] = ...) -> None: ...
