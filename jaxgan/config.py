"""What a run is: frozen, hashable dataclasses of plain values. Nothing here calls JAX.

The string under a field is its help text on the command line.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class InputError(ValueError):
    """The user's input is wrong; the message is one line that says what, where and what to do about it."""


Activation = Literal["relu", "leaky_relu", "silu", "tanh"]
Initializer = Literal["glorot_uniform", "he_normal", "lecun_normal"]
ObjectiveName = Literal["minimax", "non_saturating", "least_squares", "wasserstein", "hinge", "relativistic"]
DatasetName = Literal["auto", "mnist", "fashion_mnist", "kmnist", "digits", "stacked_mnist"]


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam (Kingma and Ba 2015)."""

    learning_rate: float = 3e-4
    """Adam's step size, > 0."""
    b1: float = 0.0
    """Decay of Adam's first moment, in [0, 1)."""
    b2: float = 0.99
    """Decay of Adam's second moment, in [0, 1)."""
    epsilon: float = 1e-8
    """Added to the root of Adam's second moment, > 0."""


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator: latents -> hidden layers -> image."""

    widths: tuple[int, ...] = (512, 512)
    """Units of each hidden layer, from the latents to the image."""
    residual: bool = False
    """Add to each hidden layer's output its input, where that has as many hidden units."""
    activation: Activation = "leaky_relu"
    """Hidden activation."""
    negative_slope: float = 0.2
    """Slope of leaky_relu below zero, in [0, 1)."""
    batch_norm: bool = False
    """Batch normalisation after each hidden activation (momentum 0.8, epsilon 1e-3)."""
    initializer: Initializer = "glorot_uniform"
    """Distribution of the initial kernels; biases start at zero."""
    output: Literal["sigmoid", "tanh", "clipped_tanh"] = "tanh"
    """Output activation; real images are scaled to its range: sigmoid [0, 1], tanh and clipped_tanh [-1, 1]."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator: image -> hidden layers -> one logit."""

    widths: tuple[int, ...] = (512, 512)
    """Units of each hidden layer, from the image to the logit."""
    residual: bool = False
    """Add to each hidden layer's output its input, where that has as many hidden units."""
    activation: Activation = "leaky_relu"
    """Hidden activation."""
    negative_slope: float = 0.2
    """Slope of leaky_relu below zero, in [0, 1)."""
    batch_norm: bool = False
    """Batch normalisation after each hidden activation (momentum 0.8, epsilon 1e-3); not with penalties."""
    minibatch_std: int = 0
    """Hidden layer, from 1, that is told how much its inputs vary in a batch, or within its classes; 0 for none."""
    black_at_zero: bool = False
    """Subtract black from all pixels before the first layer: 0 instead of -1 where G ends in a tanh."""
    initializer: Initializer = "glorot_uniform"
    """Distribution of the initial kernels; biases start at zero."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass(frozen=True)
class LatentConfig:
    """The generator's input."""

    size: int = 100
    """Numbers in one latent vector."""
    prior: Literal["normal", "uniform"] = "normal"
    """Distribution of each number: standard normal, or uniform on [-1, 1]."""
    shared: bool = False
    """Use the same latents for the discriminator's and the generator's update of a step."""
    scale: float = 1.0
    """How many times as large latents are in sampling as in training: more variety above 1, cleaner images below."""
    label_scale: float = 1.0
    """How many times as large labels are in sampling as in training, where players are told them: classes further apart
    above 1."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the players minimise."""

    name: ObjectiveName = "relativistic"
    """Adversarial loss."""
    real_label: float = 1.0
    """One-sided label smoothing: the discriminator's target on real images, in (0, 1]; cross-entropy only."""
    r1: float = 1.0
    """Weight (gamma) of the zero-centred gradient penalty on real images; 0 leaves it out."""
    r2: float = 1.0
    """Weight (gamma) of the zero-centred gradient penalty on fake images; 0 leaves it out."""
    gradient_penalty: float = 0.0
    """Weight (lambda) of the Wasserstein gradient penalty between real and fake; 0 leaves it out."""
    penalty_every: int = 1
    """Steps between gradient penalties, counted from step 0; each weighs as much as those that it stands for."""
    updates: Literal["joint", "halves", "simultaneous"] = "joint"
    """A step's updates: the discriminator's on real and fake, then the generator's (joint); the discriminator's on
    batch_size / 2 real images, that on batch_size / 2 fake ones, then the generator's (halves); or both players' from
    one batch of fakes, each against the other as it was before, at two thirds of the time or so (simultaneous)."""

    @property
    def is_cross_entropy(self) -> bool:
        """Whether the discriminator's loss is a cross-entropy with labels."""
        return self.name in ("minimax", "non_saturating")

    @property
    def sees_differences_only(self) -> bool:
        """Whether adding a constant to every logit changes nothing, so that D needs no output bias."""
        return self.name in ("relativistic", "wasserstein")

    @property
    def has_halves(self) -> bool:
        """Whether the discriminator's loss is a sum of one term on real and one on fake images."""
        return self.name != "relativistic"

    @property
    def has_penalty(self) -> bool:
        """Whether any gradient penalty is present."""
        return self.r1 > 0 or self.r2 > 0 or self.gradient_penalty > 0


@dataclass(frozen=True)
class AugmentConfig:
    """What is done in training to all images, real and fake, before the discriminator sees them."""

    shift: int = 0
    """Pixels by which an image is moved at most, each way; 0 leaves all images where they are."""
    probability: float = 0.5
    """Share of images whose move is drawn, in (0, 1]; it may be drawn as none."""


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from."""

    name: DatasetName = "auto"
    """Data set; auto is mnist where it can be had, else the embedded digits; stacked_mnist has three digits each."""
    data_dir: Path | None = None
    """Folder of prepared data sets; by default TFDS's own (TFDS_DATA_DIR or ~/tensorflow_datasets)."""
    manual_dir: Path | None = None
    """Folder that holds the original gz files of the data set, taken instead of a download."""
    holdout: int = 5000
    """First images of the training split that are held out as the validation split."""
    order: Literal["epochs", "replacement"] = "epochs"
    """Order of training images: shuffled epochs, or drawn with replacement."""
    resident: Literal["auto", "device", "host"] = "auto"
    """Where training images stay: on the device, or on the host where they would take over half of its memory."""


@dataclass(frozen=True)
class EveryConfig:
    """Cadences in steps, counted from step 0; 0 turns one off."""

    log: int = 10
    """Steps between rows of metrics.jsonl and TensorBoard scalars."""
    print: int = 1000
    """Steps between printed lines."""
    sample: int = 1000
    """Steps between pictures of samples on fixed latents."""
    sample_after: bool = False
    """Draw a picture after the update of its step rather than before it."""
    grid: int = 8
    """Rows and columns of a picture of samples."""
    checkpoint: int = 2000
    """Steps between checkpoints; the last step always has one."""


@dataclass(frozen=True)
class Config:
    """One training run; the defaults are no preset.

    Raises InputError, by field, where a value is out of range or a combination has no meaning.
    """

    seed: int = 0
    """Seed of every random number of the run."""
    num_steps: int = 12_000
    """Length of the run; one step is one discriminator and one generator update."""
    batch_size: int = 128
    """Images in a batch."""
    accumulate: int = 1
    """Micro-batches, one after the other, that a batch is computed in to save memory; not with statistics of it."""
    decay_steps: int = 0
    """Both learning rates follow a cosine to 3 % over this many steps, then stay there; 0 keeps them constant."""
    decay_start: int = 0
    """Steps before that cosine begins, if there is one."""
    conditional: bool = False
    """Tell both players what each image shows (its label), so that a class can be asked for."""
    average_decay: float = 0.999
    """Decay of the generator's moving average that samples are drawn from; 0 keeps none."""
    average_warmup: int = 9
    """Lessens that decay while a run is young: at step s it is at most (1 + s) / (1 + s + this), so that the average is
    over the last s / this steps or so. A decay d is reached after this times d / (1 - d) steps, with 0 at once."""
    keep: int = 3
    """Newest checkpoints to keep."""
    eval_every: int = 0
    """Steps between scores of the generator (Fréchet distance and recall) against the validation images; 0 for none."""
    keep_best: bool = False
    """Also keep the checkpoint with the best of these Fréchet distances."""
    gen: GeneratorConfig = field(default_factory=GeneratorConfig)
    disc: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    every: EveryConfig = field(default_factory=EveryConfig)

    def __post_init__(self) -> None:
        _check_ranges(self)
        _check_combinations(self)

    @property
    def real_batch_size(self) -> int:
        """Real images that one step looks at: half a batch where D is updated on each half apart."""
        return self.batch_size // 2 if self.objective.updates == "halves" else self.batch_size

    @property
    def zero_pixel(self) -> float:
        """The value of a pixel that D's first layer reads as 0."""
        return -1.0 if self.disc.black_at_zero and self.gen.output != "sigmoid" else 0.0

    @cached_property
    def structure(self) -> Config:
        """This config with every value that does not shape the compiled program set to a fixed one.

        It is the static argument of jit: configs of equal structure share one program. The numbers that were
        taken out are in `TrainState.hyper`.
        """
        simultaneous = self.objective.updates == "simultaneous"  # Its players always share latents.
        objective = replace(
            self.objective,
            real_label=1.0,
            r1=float(self.objective.r1 > 0),
            r2=float(self.objective.r2 > 0),
            gradient_penalty=float(self.objective.gradient_penalty > 0),
            penalty_every=self.objective.penalty_every if self.objective.has_penalty else 1,
        )
        return Config(
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            conditional=self.conditional,
            average_decay=0.5 if self.average_decay > 0 else 0.0,
            average_warmup=self.average_warmup if self.average_decay > 0 else 9,
            gen=_structure(self.gen),
            disc=_structure(self.disc),
            latent=replace(self.latent, shared=self.latent.shared or simultaneous, scale=1.0, label_scale=1.0),
            objective=objective,
            augment=AugmentConfig(shift=self.augment.shift),
            data=DataConfig(order=self.data.order),
        )


Player = TypeVar("Player", GeneratorConfig, DiscriminatorConfig)


def _structure(player: Player) -> Player:
    slope = player.negative_slope if player.activation == "leaky_relu" else 0.0
    return replace(player, optimizer=OptimizerConfig(), negative_slope=slope)


def flag(name: str) -> str:
    """The command-line flag of a config field: `gen.batch_norm` -> `--gen.batch-norm`."""
    return "--" + name.replace("_", "-")


def as_typed(value: Any) -> str:
    """A field's value as it is typed behind its flag."""
    return " ".join(map(str, value)) or "nothing" if isinstance(value, tuple) else str(value)


def expanded(path: Path) -> Path:
    """The path with the home folder that its `~` stands for.

    Raises:
        InputError: There is none.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: there is no such home folder; name it in full") from error


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted name, value) of every field of a config that is not a group of fields."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value


def with_values(config: T, values: Mapping[str, Any]) -> T:
    """A config with other values in fields by their dotted names, `{"objective.r1": 0.0}`, all at once."""
    here = {name: value for name, value in values.items() if "." not in name}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, _, rest = name.partition(".")
        if rest:
            groups.setdefault(group, {})[rest] = value
    below = {group: with_values(getattr(config, group), inner) for group, inner in groups.items()}
    return replace(config, **here, **below)  # pyright: ignore[reportArgumentType, reportCallIssue]


_AT_LEAST_ZERO = "decay_steps decay_start average_warmup eval_every data.holdout disc.minibatch_std"
_AT_LEAST_ZERO += " every.log every.print every.sample every.checkpoint"
_AT_LEAST_ONE = "num_steps batch_size accumulate keep objective.penalty_every"
_WEIGHTS = "objective.r1 objective.r2 objective.gradient_penalty"
_FRACTIONS = "average_decay gen.negative_slope disc.negative_slope"
_WIDTH_MAX = 2**16
_SCALE_MAX = 1000
EVAL_IMAGES = 100
"""The fewest validation images that say anything."""
_STEPS_MAX = 2**31 - 2  # `TrainState.step` is an int32, and one past the end must fit.


def _check_ranges(config: Config) -> None:
    for name, value in leaves(config):
        wanted, test = RANGES.get(name, ("", lambda _: True))
        if not (test(value) and test(_as_float32(value))):
            raise InputError(f"{flag(name)} {wanted}, not {as_typed(value)}")


def _as_float32(value: Any) -> Any:
    """A number as training has it: 1e39 is infinite there, 1e-50 is zero, and 0.99999999999 is one."""
    if not isinstance(value, float):
        return value
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def _are_widths(widths: tuple[int, ...]) -> bool:
    if not isinstance(widths, tuple):  # A list cannot be hashed.
        return False
    return len(widths) > 0 and all(type(width) is int and 1 <= width <= _WIDTH_MAX for width in widths)


def _ranges() -> dict[str, tuple[str, Any]]:
    ok: dict[str, tuple[str, Any]] = {}

    def rule(names: str, wanted: str, test: Any) -> None:
        ok.update(dict.fromkeys(names.split(), (wanted, test)))

    def whole(names: str, least: int, most: int) -> None:
        wanted = f"must be a whole number from {least} to {most}"
        rule(names, wanted, lambda x: type(x) is int and least <= x <= most)

    whole("seed", 0, 2**32 - 1)
    whole(_AT_LEAST_ZERO, 0, _STEPS_MAX)
    whole(_AT_LEAST_ONE, 1, _STEPS_MAX)
    whole("latent.size", 1, _WIDTH_MAX)
    whole("every.grid", 1, 100)
    whole("augment.shift", 0, 16)
    rule(_WEIGHTS, "must be a finite number, 0 or more", lambda x: 0 <= x < math.inf)
    rule(_FRACTIONS, "must be in [0, 1)", lambda x: 0 <= x < 1)
    rule("latent.scale latent.label_scale", f"must be above 0 and at most {_SCALE_MAX}", lambda x: 0 < x <= _SCALE_MAX)
    rule("objective.real_label augment.probability", "must be in (0, 1]", lambda x: 0 < x <= 1)
    for player in ("gen", "disc"):
        rule(f"{player}.widths", f"must name one or more hidden layers of 1 to {_WIDTH_MAX} units", _are_widths)
        rates = f"{player}.optimizer.learning_rate {player}.optimizer.epsilon"
        rule(rates, "must be a finite number above 0", lambda x: 0 < x < math.inf)
        rule(f"{player}.optimizer.b1 {player}.optimizer.b2", "must be in [0, 1)", lambda x: 0 <= x < 1)
    for name, choices in _choices(Config):
        rule(name, f"must be one of {', '.join(choices)}", choices.__contains__)
    return ok


def _choices(kind: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """The fields that take one of some words, and those words, by dotted name."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from _choices(hint, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        elif get_origin(hint) is Literal:
            yield prefix + name, get_args(hint)


RANGES = _ranges()
"""What a field's value must be, in words and as a test, by dotted name."""


def _check_combinations(config: Config) -> None:
    if config.eval_every and config.data.holdout < EVAL_IMAGES:
        raise InputError(
            f"--eval-every scores against held-out images: it needs --data.holdout {EVAL_IMAGES} or more, "
            f"not {config.data.holdout}"
        )
    if config.keep_best and not config.eval_every:
        raise InputError("--keep-best needs scores to choose by: add --eval-every N, or --no-keep-best")
    if config.disc.minibatch_std > (layers := len(config.disc.widths)):
        raise InputError(
            f"--disc.minibatch-std {config.disc.minibatch_std} is a hidden layer of D, which has {layers}, as "
            "--disc.widths says"
        )
    if config.accumulate > 1:
        if config.gen.batch_norm or config.disc.batch_norm:
            raise InputError("--accumulate splits a batch, but batch norm takes the statistics of a whole one")
        if config.disc.minibatch_std:
            raise InputError("--accumulate splits a batch, but --disc.minibatch-std looks at a whole one")
        if config.real_batch_size % config.accumulate:
            raise InputError(
                f"--accumulate {config.accumulate} must divide the {config.real_batch_size} real images of a step"
            )
    _check_objective(config)


def _check_objective(config: Config) -> None:
    objective = config.objective
    if objective.real_label != 1 and not objective.is_cross_entropy:
        raise InputError(
            f"--objective.real-label {objective.real_label} smooths the labels of a cross-entropy; "
            f"--objective.name {objective.name} has none"
        )
    if objective.updates == "halves":
        if not objective.has_halves:
            raise InputError(f"--objective.updates halves has no meaning with --objective.name {objective.name}")
        if config.batch_size % 2:
            raise InputError(f"--batch-size must be even with --objective.updates halves, not {config.batch_size}")
        if config.latent.shared:
            raise InputError("--latent.shared needs batches of one size; --objective.updates halves has two")
        if config.conditional:
            raise InputError(
                "--conditional needs a real image for each fake one; --objective.updates halves has half as many"
            )
        if objective.has_penalty:
            raise InputError("--objective.updates halves takes no gradient penalty; set r1, r2, gradient-penalty to 0")
    if objective.has_penalty and config.disc.batch_norm:
        raise InputError("--disc.batch-norm mixes the images of a batch, so gradient penalties have no meaning with it")
