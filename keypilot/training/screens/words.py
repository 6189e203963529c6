"""What stands on a screen: names, sentences, titles, searches, in several languages."""

from __future__ import annotations

import json
import random
from importlib import resources

_LISTS: dict[str, list[str]] = json.loads(
    resources.files(__package__).joinpath("words.json").read_text(encoding="utf-8")
)
EMOJI = tuple(_LISTS["emoji"])


class Words:
    """Draws what a screen says from `rng`; `chinese` is how likely a name or a sentence is Chinese."""

    def __init__(self, rng: random.Random, chinese: float) -> None:
        self.rng = rng
        self.chinese = chinese

    def one(self, kind: str) -> str:
        """An entry of a list of words.json."""
        return self.rng.choice(_LISTS[kind])

    def several(self, kind: str, count: int) -> list[str]:
        return [self.one(kind) for _ in range(count)]

    def name(self) -> str:
        if self.rng.random() < self.chinese:
            return self.one("chinese_names")
        return self.one("first_names") + (" " + self.one("last_names") if self.rng.random() < 0.7 else "")

    def sentence(self) -> str:
        if self.rng.random() < self.chinese:
            text = self.one("chinese_sentences")
        elif self.rng.random() < 0.15:
            text = self.one("other_sentences")
        else:
            fillers = {
                "time": "times",
                "place": "places",
                "thing": "things",
                "feeling": "feelings",
                "name": "first_names",
            }
            text = self.one("sentences").format(**{slot: self.one(kind) for slot, kind in fillers.items()})
        return text + (" " + self.one("emoji") if self.rng.random() < 0.15 else "")

    def paragraph(self, sentences: int) -> str:
        return " ".join(self.sentence() for _ in range(sentences))

    def typed(self) -> str:
        """A sentence that is being typed: often not to its end."""
        text = self.sentence()
        return text[: self.rng.randint(1, len(text))].rstrip() if self.rng.random() < 0.7 else text

    def setting(self) -> tuple[str, str]:
        return self.one("settings"), self.one("details")

    def clock(self) -> str:
        return f"{self.rng.randint(0, 23)}:{self.rng.randint(0, 59):02d}"

    def date(self) -> str:
        day = f"{self.rng.randint(1, 28)}.{self.rng.randint(1, 12)}"
        return self.rng.choice(("Today", "Yesterday", "Monday", "12 May", "Jul 14", "3 Oct", "昨天", day))
