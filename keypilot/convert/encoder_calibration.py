"""Calibration data for KeyPilot's encoder: what each program meets in the float32 pipeline on pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keypilot.errors import ArgumentError

if TYPE_CHECKING:
    from keypilot.encoder import Picture
    from keypilot.reference.encoder import KeyPilotEncoder

#: Drawn screens, where no pictures are given.
_DRAWN = 16

#: Sequences of random tokens, of the longest length, beside the texts: they reach the whole table of embeddings.
_RANDOM_TEXTS = 32

#: Combinations of a picture, a text and a user that the fusion sees.
_COMBINATIONS = 96

#: What is typed on phones, in several registers, scripts and lengths.
TEXTS = (
    "ok",
    "see you at",
    "On my way!",
    "Happy birthday!! Hope you have a wonderful day",
    "can you pick up milk and eggs on the way home",
    "What time does the meeting start tomorrow?",
    "Running about ten minutes late, sorry",
    "lol that's hilarious",
    "The quick brown fox jumps over the lazy dog",
    "Dear Ms. Jones, thank you for your message of 3 March. I would be glad to meet on Thursday at 14:30.",
    "https://example.com/search?q=keyboard&page=2",
    "my new number is +44 20 7946 0958",
    "meet me at the station, platform 4, by the coffee stand",
    "I don't think that's a good idea...",
    "Sounds good",
    "haha yes",
    "2 cups of flour, 1/2 teaspoon of salt, 3 tablespoons of butter",
    "Could you please send me the latest version of the report before Friday?",
    "brb",
    "No problem at all, take your time",
    "Love you too \u2764\ufe0f",
    "\U0001f602\U0001f602\U0001f602",
    "Let me know when you get there, and drive safely. The roads are icy tonight and they say more snow is coming.",
    "user@example.org",
    "SELECT name FROM users WHERE id = 42;",
    "Wo bist du gerade?",
    "\u00bfA qu\u00e9 hora llega el tren?",
    "Je suis d\u00e9sol\u00e9, je ne peux pas venir ce soir",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043a\u0430\u043a \u0434\u0435\u043b\u0430?",
    "I was thinking about what you said yesterday, and I agree that we should wait until the end of the month before "
    "we decide anything. There is no hurry, and by then we will know more about the new flat and the job.",
    "",
)


def calibration_batches(
    encoder: KeyPilotEncoder, pictures: Sequence[Picture] | None = None, *, seed: int = 0
) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """(program -> batches of inputs, what they are made from).

    Crops come from the boxes that the float32 pipeline finds on each picture, and the fusion's inputs from the other
    programs.

    Parameters
    ----------
    pictures : screenshots, in any form that `keypilot.Encoder.encode` takes; None: drawn ones.
    """
    from keypilot.reference.pipeline import Pipeline
    from keypilot.reference.presets import drawn_screens

    if pictures is not None and not pictures:
        raise ArgumentError("pictures: expected at least one to calibrate on, got none")
    source = f"{_DRAWN} drawn screens" if pictures is None else f"{len(pictures)} pictures"
    if pictures is None:
        pictures = list(drawn_screens(_DRAWN, encoder.config.image_side, seed=seed + 1))
    rng = np.random.default_rng(seed)
    pipeline = Pipeline(encoder)
    batches: dict[str, list[dict[str, Any]]] = {name: [] for name in encoder.programs()}
    for index, picture in enumerate(pictures):
        inputs = pipeline.encode(picture, TEXTS[index % len(TEXTS)], 0).inputs
        for program in batches.keys() - {"text", "user"}:
            batches[program].append(inputs[program])
    texts = [pipeline.text_inputs(text) for text in TEXTS]
    embeddings = [pipeline.run("text", inputs)["text_embedding"] for inputs in texts]
    batches["text"] = texts + [_random_text(encoder, rng) for _ in range(_RANDOM_TEXTS)]
    seen = batches["fusion"]
    combinations = []
    for index in range(_COMBINATIONS):
        text = embeddings[int(rng.integers(len(embeddings)))]
        combination = {**seen[index % len(seen)], "text": text}
        if "user" in batches:
            batches["user"].append({"user": rng.integers(encoder.config.user_count, size=1)})
            combination |= pipeline.run("user", batches["user"][-1])
        combinations.append(combination)
    batches["fusion"] = combinations
    return batches, f"{source}, {len(TEXTS)} texts, {_RANDOM_TEXTS} sequences of random tokens"


def _random_text(encoder: KeyPilotEncoder, rng: np.random.Generator) -> dict[str, Any]:
    import torch

    from keypilot.reference.text import text_inputs

    ids = rng.integers(encoder.text.vocab_size, size=(1, encoder.config.max_tokens))
    return {name: tensor.numpy() for name, tensor in text_inputs(encoder.text, torch.from_numpy(ids)).items()}
