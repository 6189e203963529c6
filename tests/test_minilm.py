"""Trained weights: a sentence encoder in int8 against PyTorch, on text that calibration has not seen."""

from __future__ import annotations

import inspect
import pydoc
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import keypilot  # noqa: E402
from keypilot.reference.timm_shim import import_timm  # noqa: E402

_MODULES = ("argparse", "csv", "datetime", "decimal", "email.message", "fractions", "heapq", "http.client", "ipaddress")
_MODULES += ("json", "logging", "random", "shutil", "socket", "statistics", "string", "tarfile", "textwrap", "zipfile")


class SentenceEncoder(nn.Module):
    """BERT's last hidden states, averaged over the tokens and normalised: (N, T) -> (N, 384)."""

    def __init__(self, folder, layers):
        super().__init__()
        import_timm()  # transformers must not look for torchvision
        from transformers import BertModel

        self.bert = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="sdpa")
        self.bert.encoder.layer = self.bert.encoder.layer[:layers]

    def forward(self, input_ids, position_ids, attention_mask):
        types = torch.zeros_like(input_ids)
        present = attention_mask > 0
        hidden = self.bert(
            input_ids, present[:, None, None], position_ids=position_ids, token_type_ids=types
        ).last_hidden_state
        mask = attention_mask[..., None].float()
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def sentences(count):
    """Sentences of the standard library's documentation, short and long, each once."""
    found = {}
    for name in _MODULES:
        module = pydoc.locate(name)
        members = [module, *(member for _name, member in inspect.getmembers(module, callable))]
        for text in filter(None, map(inspect.getdoc, members)):
            for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
                words = sentence.split()
                if 3 <= len(words) <= 60 and sentence[0].isalpha():
                    found[" ".join(words)] = len(words)
    order = np.random.default_rng(0).permutation(len(found))[:count]
    assert len(order) == count
    return [list(found)[index] for index in order]


@pytest.mark.slow
def test_a_trained_sentence_encoder_of_two_layers_keeps_its_embeddings(minilm):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    batches = []
    for encoding in tokenizer.encode_batch(sentences(160)):
        ids = torch.tensor([encoding.ids])
        positions = torch.arange(ids.shape[1])[None]
        batches.append({"input_ids": ids, "position_ids": positions, "attention_mask": torch.ones_like(ids)})
    module = SentenceEncoder(minilm, 2).eval()
    model = keypilot.compile(
        module,
        batches[0],
        precision="int8",
        calibration=batches[:60],
        dynamic={key: {1: "T"} for key in batches[0]},
    )
    cosines = []
    for batch in batches[60:]:
        with torch.no_grad():
            expected = module(**batch)[0].numpy()
        actual = model(**{name: tensor.numpy() for name, tensor in batch.items()})[0]
        cosines.append(float(expected @ actual / np.linalg.norm(actual)))
    assert min(cosines) >= 0.999
