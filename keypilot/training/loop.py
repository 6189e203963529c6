"""A resumable training loop: one stage, one folder, a checkpoint every few minutes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from keypilot.errors import ArgumentError
from keypilot.training.data import Batch

#: The seeds below this are for evaluation; training starts here.
FIRST_TRAINING_SEED = 1_000_000

#: Step, weights, optimiser: what a stage goes on from.
_STATE = "state.pt"
_LOG = "log.jsonl"


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    The learning rate rises linearly for `warmup` steps, then falls along half a cosine to a hundredth at `steps`.
    """

    steps: int
    batch_size: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 100
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2)


Losses = Mapping[str, torch.Tensor]


def train(
    model: nn.Module,
    losses: Callable[[Batch], Losses],
    data: Callable[[int, int], Iterator[Batch]],
    schedule: Schedule,
    folder: str | os.PathLike[str],
    *,
    minutes: float | None = None,
    save_every: float = 5.0,
) -> bool:
    """Trains `model` until `schedule` ends, or for `minutes`; goes on where an earlier call in the same folder stopped.

    Parameters
    ----------
    model : what is trained, in place; its state is saved as a whole.
    losses : a batch to named losses; their sum is made small.
    data : (first seed, number of screens) to batches of `schedule.batch_size`; a step has its own seeds, so that a run
        that was interrupted sees the same screens as one that was not.
    folder : gets ``state.pt`` and ``log.jsonl``, a line of losses every ten steps.
    save_every : minutes between checkpoints.

    Returns
    -------
    bool : whether the schedule has ended.

    Raises
    ------
    ArgumentError : the folder holds the state of another schedule or of another model.
    """
    from tqdm import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(_groups(model, schedule.weight_decay), lr=schedule.learning_rate)
    step = _restore(folder / _STATE, model, optimizer, schedule)
    started = saved = time.monotonic()
    screens = data(
        FIRST_TRAINING_SEED + schedule.seed * 10**9 + step * schedule.batch_size,
        (schedule.steps - step) * schedule.batch_size,
    )
    model.train()
    with (
        tqdm(total=schedule.steps, initial=step, desc=folder.name, file=sys.stderr) as progress,
        (folder / _LOG).open("a", encoding="utf-8") as log,
    ):
        for batch in screens:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            found = losses(batch)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            progress.update()
            if step % 10 == 0:
                values = {name: round(value.item(), 5) for name, value in found.items()}
                progress.set_postfix(values)
                log.write(json.dumps({"step": step, **values}) + "\n")
                log.flush()
            now = time.monotonic()
            out_of_time = minutes is not None and now - started > 60 * minutes
            if out_of_time or now - saved > 60 * save_every:
                _save(folder / _STATE, model, optimizer, schedule, step)
                saved = now
            if out_of_time:
                return step == schedule.steps
    _save(folder / _STATE, model, optimizer, schedule, step)
    return True


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and other vectors do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    state = {
        "schedule": dataclasses.asdict(schedule),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Schedule) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["schedule"] != dataclasses.asdict(schedule):
        raise ArgumentError(
            f"{path}: expected a run of {dataclasses.asdict(schedule)}, got one of {state['schedule']}; "
            "name another folder to start anew"
        )
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise ArgumentError(f"{path}: the state of another model: {error}") from error
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
