"""The networks that every engine runs, with their weights, inputs and float32 results.

`create` writes a network to a folder of its own. `open_network` reads it in another process:

network.json  name, kind and number of outputs
weights.pt    the module's state dict
arrays.npz    ``calibration/I/INPUT``, ``test/I/INPUT``, and ``reference/I/J``: what PyTorch gives for the latter
timed.npz     ``test/0/INPUT`` alone
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from keypilot.picture import load_rgb
from keypilot.reference.config import PRESETS, EncoderConfig
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.image import letterbox, normalize
from keypilot.reference.pipeline import Pipeline
from keypilot.reference.presets import build, drawn_screens
from keypilot.reference.roi import SamLite
from keypilot.reference.text_bert import BPE_ENTRIES, ROBERTA_OFFSET, roberta
from keypilot.reference.timm_shim import import_timm

Array = npt.NDArray[Any]
Inputs = dict[str, Array]

PRESET = "keypilot-base"
SEED = 0

#: What the user has typed, for the whole encoder and its text program.
TEXTS = (
    "see you at the station in ten minutes",
    "could you send me the address again please",
    "happy birthday! hope you have a great day",
    "I'm running late, start without me",
    "what time does the meeting begin tomorrow",
)

#: Calibration pictures in a row that are views of one.
VIEWS = 4

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Screens:
    """Pictures of two kinds: for calibration and statistics, and for measuring errors and times."""

    calibration: Sequence[npt.NDArray[np.uint8]]
    test: Sequence[npt.NDArray[np.uint8]]

    @classmethod
    def of(cls, folder: Path | None) -> Screens:
        """The pictures of a folder, every other one for calibration, in four views; None: drawn ones."""
        if folder is None:
            pictures = [
                np.kron(screen, np.ones((4, 2, 1), np.uint8)) for screen in drawn_screens(10, 256, seed=SEED + 1)
            ]
        else:
            paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
            if len(paths) < 2:
                raise ValueError(f"{folder}: expected at least two pictures, got {len(paths)}")
            pictures = [load_rgb(path) for path in paths]
        return cls([view for picture in pictures[1::2] for view in _views(picture)], pictures[::2])


def _views(picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """A picture, mirrored, and without a sixth at its top or at its bottom."""
    sixth = picture.shape[0] // 6
    views = (picture, picture[:, ::-1], picture[sixth:], picture[:-sixth])
    return [np.ascontiguousarray(view) for view in views]


@dataclasses.dataclass(frozen=True)
class Spec:
    """How a network is made.

    Attributes
    ----------
    title : what tables call it.
    kind : ``"picture"`` (convolutions), ``"tokens"`` (a transformer alone) or ``"pipeline"`` (the whole encoder, which
        only KeyPilot and PyTorch run).
    structure : the module, with weights of no account.
    make : the module as `structure` gives it, with seeded weights, and statistics from the calibration pictures.
    samples : the inputs that some pictures give.
    """

    title: str
    kind: str
    structure: Callable[[], nn.Module]
    make: Callable[[Screens], nn.Module]
    samples: Callable[[Screens, nn.Module], tuple[list[Inputs], list[Inputs]]]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as an engine's converter sees it.

    Attributes
    ----------
    module : in eval mode; takes the inputs in their order.
    timed, calibration : inputs by name. The shapes are the same in all of them.
    folder : its own, where a converter may keep what several variants, or engines, start from.
    """

    folder: Path
    name: str
    kind: str
    module: nn.Module
    timed: Inputs
    calibration: list[Inputs]
    outputs: int

    @property
    def example(self) -> tuple[torch.Tensor, ...]:
        """The timed inputs as tensors, in forward's order."""
        return tuple(torch.from_numpy(array) for array in self.timed.values())

    @property
    def groups(self) -> list[Inputs]:
        """The calibration inputs with the views of each picture joined, along the batch."""
        views = 1 if self.kind == "tokens" else VIEWS
        groups = [self.calibration[start : start + views] for start in range(0, len(self.calibration), views)]
        return [{name: np.concatenate([inputs[name] for inputs in group]) for name in group[0]} for group in groups]

    @property
    def flat(self) -> nn.Module:
        """The module with a tuple of tensors as its result."""
        return Flat(self.module).eval()


class Flat(nn.Module):
    """A module whose result is a tuple of tensors, whatever the inner one's is."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return flatten(self.module(*inputs))


def flatten(result: Any) -> tuple[torch.Tensor, ...]:
    """A tensor, or a sequence or dict of tensors, as a tuple."""
    if isinstance(result, torch.Tensor):
        return (result,)
    return tuple(result.values() if isinstance(result, Mapping) else result)


# ---- Files ----


def create(name: str, screens: Screens, folder: Path) -> None:
    """Writes network `name` to `folder`."""
    spec = SPECS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = spec.make(screens).eval().requires_grad_(False)
        calibration, test = spec.samples(screens, module)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(module.state_dict(), folder / "weights.pt")
    arrays: Inputs = {}
    for kind, batches in (("calibration", calibration), ("test", test)):
        for index, batch in enumerate(batches):
            arrays.update({f"{kind}/{index}/{key}": np.ascontiguousarray(array) for key, array in batch.items()})
    outputs = 0
    for index, batch in enumerate(test):
        references = _reference(spec, module, batch)
        outputs = len(references)
        arrays.update({f"reference/{index}/{i}": array for i, array in enumerate(references)})
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]  # its stub wants allow_pickle here
    timed = {key: array for key, array in arrays.items() if key.startswith("test/0/")}
    np.savez(folder / "timed.npz", **timed)  # type: ignore[arg-type]
    (folder / "network.json").write_text(json.dumps({"name": name, "kind": spec.kind, "outputs": outputs}))


def open_network(folder: Path) -> Network:
    """The network that `create` wrote to `folder`."""
    about = json.loads((folder / "network.json").read_text())
    module = SPECS[about["name"]].structure()
    module.load_state_dict(torch.load(folder / "weights.pt"))
    calibration: dict[str, Inputs] = {}
    timed: Inputs = {}
    with np.load(folder / "arrays.npz") as arrays:
        for key in arrays.files:
            kind, index, name = key.split("/")
            if kind == "calibration":
                calibration.setdefault(index, {})[name] = arrays[key]
            elif (kind, index) == ("test", "0"):
                timed[name] = arrays[key]
    return Network(
        folder,
        about["name"],
        about["kind"],
        module.eval().requires_grad_(False),
        timed,
        list(calibration.values()),
        about["outputs"],
    )


def _reference(spec: Spec, module: nn.Module, batch: Inputs) -> list[Array]:
    """PyTorch's float32 results. Of the whole encoder, the context vector."""
    with torch.no_grad():
        if spec.kind == "pipeline":
            assert isinstance(module, KeyPilotEncoder)
            return [Pipeline(module).encode(batch["picture"], batch["text"].item(), 0).context]
        return [tensor.numpy() for tensor in flatten(module(*(torch.from_numpy(a) for a in batch.values())))]


# ---- Modules ----


class TextLayers(nn.Module):
    """RoBERTa's embeddings and layers on full sequences: input_ids (N, T) -> hidden states (N, T, hidden)."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.roberta = roberta()
        self.positions: torch.Tensor
        self.register_buffer("positions", torch.arange(ROBERTA_OFFSET, ROBERTA_OFFSET + tokens).unsqueeze(0))

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        embedded = self.roberta.embeddings(
            input_ids=input_ids,
            position_ids=self.positions.expand(input_ids.shape[0], -1),
            token_type_ids=torch.zeros_like(input_ids),
        )
        for layer in self.roberta.encoder.layer:
            embedded = layer(embedded)
        hidden: torch.Tensor = embedded
        return hidden


class FusionLayer(nn.Module):
    """One BERT layer, 256 wide: (N, 9, 256) -> (N, 9, 256)."""

    def __init__(self) -> None:
        super().__init__()
        import_timm()
        from transformers import BertConfig
        from transformers.models.bert.modeling_bert import BertLayer

        self.layer = BertLayer(
            BertConfig(
                hidden_size=256,
                num_attention_heads=8,
                intermediate_size=1024,
                attn_implementation="sdpa",  # type: ignore[call-arg]  # taken by every config's base class
            )
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        fused: torch.Tensor = self.layer(tokens)
        return fused


def _features(name: str) -> nn.Module:
    model: nn.Module = import_timm().create_model(name, features_only=True, out_indices=(3, 4))
    return model


def settle(module: nn.Module, batches: Sequence[Inputs]) -> None:
    """Sets BatchNorm's running statistics from the batches, in float64, so that they depend on no thread count."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    module.eval().double()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    joined = [torch.cat([torch.from_numpy(b[key]).double() for b in batches]) for key in batches[0]]
    with torch.no_grad():
        module(*joined)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval().float()


@functools.lru_cache(maxsize=1)
def _base_encoder(screens: Screens) -> KeyPilotEncoder:
    """The preset, its statistics and SamLite's bias from the calibration pictures."""
    encoder = build(PRESET, seed=SEED)
    config = encoder.config
    batches = [{"image": _square(picture, config.image_side, _PLAIN)} for picture in screens.calibration]
    screen = encoder.programs()["screen"].module
    settle(screen, batches)
    assert isinstance(encoder.regions, SamLite)
    with torch.no_grad():
        logits = screen(torch.cat([torch.from_numpy(batch["image"]) for batch in batches]))["mask_logits"]
        by_region = logits.transpose(0, 1).flatten(1)  # (4, pictures x S x S)
        encoder.regions.bias.sub_(by_region.quantile(0.67, dim=1).view(1, -1, 1))  # a third of a screen each
    return encoder


def _bare_encoder() -> KeyPilotEncoder:
    return KeyPilotEncoder(PRESETS[PRESET])


# ---- Samples ----


def _square(
    picture: npt.NDArray[np.uint8], side: int, scale: tuple[Sequence[float], Sequence[float]], box: Any = None
) -> Array:
    """A letterboxed picture, or its part `box`, normalised: (1, 3, side, side)."""
    height, width = picture.shape[:2]
    pixels = letterbox(picture, box or (0, 0, width, height), side, EncoderConfig().image_pad)
    square: Array = normalize(pixels, *scale).transpose(2, 0, 1)[np.newaxis]
    return square


def _wholes(
    side: int, scale: tuple[Sequence[float], Sequence[float]], screens: Screens
) -> tuple[list[Inputs], list[Inputs]]:
    def of(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[Inputs]:
        return [{"x": _square(picture, side, scale)} for picture in pictures]

    return of(screens.calibration), of(screens.test)


def _crops(side: int, screens: Screens) -> tuple[list[Inputs], list[Inputs]]:
    """The cells of the fixed grid, four to a picture."""

    def cells(picture: npt.NDArray[np.uint8]) -> Array:
        height, width = picture.shape[:2]
        scale = np.array([width, height, width, height])
        boxes = [(np.array(cell) * scale // 1000).tolist() for cell in EncoderConfig().grid]
        return np.concatenate([_square(picture, side, _PLAIN, box) for box in boxes])

    return [{"x": cells(p)} for p in screens.calibration], [{"x": cells(p)} for p in screens.test]


def _token_ids(batch: int, tokens: int) -> tuple[list[Inputs], list[Inputs]]:
    rng = np.random.default_rng(SEED)
    batches = [{"input_ids": rng.integers(5, BPE_ENTRIES, (batch, tokens))} for _ in range(20)]
    return batches[1::2], batches[::2]


def _hidden_states() -> tuple[list[Inputs], list[Inputs]]:
    rng = np.random.default_rng(SEED)
    batches = [{"tokens": rng.standard_normal((1, 9, 256)).astype(np.float32)} for _ in range(20)]
    return batches[1::2], batches[::2]


def _program_inputs(program: str, screens: Screens) -> tuple[list[Inputs], list[Inputs]]:
    """What the pipeline gives the program on each picture."""
    pipeline = Pipeline(_base_encoder(screens))

    def of(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[Inputs]:
        return [
            pipeline.encode(picture, TEXTS[i % len(TEXTS)], user=i).inputs[program]
            for i, picture in enumerate(pictures)
        ]

    return of(screens.calibration), of(screens.test)


def _program_texts() -> tuple[list[Inputs], list[Inputs]]:
    """Token ids in the length of `TEXTS[0]`: what was typed, and random ids for calibration."""
    from tokenizers import Tokenizer

    from keypilot.reference.tokenizer import DEFAULT_TOKENIZER

    typed = Tokenizer.from_file(str(DEFAULT_TOKENIZER)).encode(TEXTS[0]).ids
    calibration, test = _token_ids(1, len(typed))
    test[0]["input_ids"] = np.array([typed])
    positions = np.arange(ROBERTA_OFFSET, ROBERTA_OFFSET + len(typed))[np.newaxis]

    def complete(batches: list[Inputs]) -> list[Inputs]:
        return [
            {**batch, "position_ids": positions, "attention_mask": np.ones_like(batch["input_ids"])}
            for batch in batches
        ]

    return complete(calibration), complete(test)


def _encoder_inputs(screens: Screens) -> tuple[list[Inputs], list[Inputs]]:
    def of(pictures: Sequence[npt.NDArray[np.uint8]]) -> list[Inputs]:
        return [{"picture": picture, "text": np.array(TEXTS[0])} for picture in pictures]

    return of(screens.calibration), of(screens.test)


# ---- The list ----


def _timm_spec(title: str, model: str, samples: Callable[[Screens], tuple[list[Inputs], list[Inputs]]]) -> Spec:
    def make(screens: Screens) -> nn.Module:
        module = _features(model)
        settle(module, samples(screens)[0])
        return module

    return Spec(title, "picture", lambda: _features(model), make, lambda screens, module: samples(screens))


def _text_spec(batch: int, tokens: int) -> Spec:
    def structure() -> nn.Module:
        return TextLayers(tokens)

    return Spec(
        f"RoBERTa 2 x 312, {batch} x {tokens} tokens",
        "tokens",
        structure,
        lambda screens: structure(),
        lambda screens, module: _token_ids(batch, tokens),
    )


def _program_spec(program: str, kind: str) -> Spec:
    def samples(screens: Screens, module: nn.Module) -> tuple[list[Inputs], list[Inputs]]:
        return _program_texts() if program == "text" else _program_inputs(program, screens)

    return Spec(
        f"{PRESET}: {program}{', 4 crops' if program == 'roi' else ''}",
        kind,
        lambda: _bare_encoder().programs()[program].module,
        lambda screens: _base_encoder(screens).programs()[program].module,
        samples,
    )


SPECS: dict[str, Spec] = {
    "bb256": _timm_spec("MobileViT-XXS features, 256 x 256", "mobilevit_xxs", functools.partial(_wholes, 256, _PLAIN)),
    "bb112x4": _timm_spec("MobileViT-XXS features, 4 x 112 x 112", "mobilevit_xxs", functools.partial(_crops, 112)),
    "text12": _text_spec(1, 12),
    "text64": _text_spec(1, 64),
    "text16x64": _text_spec(16, 64),
    "fusion": Spec(
        "BERT layer 256, 9 tokens",
        "tokens",
        FusionLayer,
        lambda screens: FusionLayer(),
        lambda screens, module: _hidden_states(),
    ),
    "mnv3": _timm_spec(
        "MobileNetV3-Small features, 224 x 224", "mobilenetv3_small_100", functools.partial(_wholes, 224, _IMAGENET)
    ),
    "base_screen": _program_spec("screen", "picture"),
    "base_roi": _program_spec("roi", "picture"),
    "base_text": _program_spec("text", "tokens"),
    "base_fusion": _program_spec("fusion", "tokens"),
    "encoder": Spec(
        f"{PRESET}: whole encoder",
        "pipeline",
        _bare_encoder,
        _base_encoder,
        lambda screens, module: _encoder_inputs(screens),
    ),
}

#: The networks whose times add up to the whole encoder's, less the work on pixels in between.
ENCODER_PARTS = ("base_screen", "base_roi", "base_text", "base_fusion")
