"""Training: what the losses want, that a stage learns, and that an interrupted one goes on as if it had not been."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch

from keypilot.errors import ArgumentError
from keypilot.reference.config import EncoderConfig
from keypilot.reference.presets import build_config
from keypilot.training import screens
from keypilot.training.data import batches
from keypilot.training.loop import Schedule, train
from keypilot.training.losses import info_nce, mask_loss
from keypilot.training.regions import RegionModel, evaluate_regions, train_regions

pytestmark = pytest.mark.usefixtures("fonts")

SMALL = EncoderConfig(image_side=64, crop_side=32, neck_channels=48)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    yield
    torch.set_num_threads(threads)


def test_pairs_have_less_info_nce_than_strangers():
    torch.manual_seed(0)
    a = torch.randn(16, 32)
    b = a + 0.1 * torch.randn(16, 32)
    assert info_nce(a, b) < 0.1
    assert info_nce(a, b.roll(1, 0)) > 3
    assert torch.allclose(info_nce(a, b), info_nce(b, a))
    assert torch.allclose(info_nce(a, b), info_nce(3 * a, b / 5))


def test_info_nce_of_indistinguishable_pairs_is_the_logarithm_of_their_number():
    same = torch.ones(8, 4)
    assert info_nce(same, same).item() == pytest.approx(np.log(8), rel=1e-5)


def test_the_mask_loss_is_least_at_the_masks_and_wants_absent_regions_empty():
    masks = torch.zeros(2, 4, 8, 8)
    masks[:, 0, 2:5, 1:7] = 1
    right, wrong, everywhere = 40 * (masks - 0.5), -40 * (masks - 0.5), torch.full_like(masks, 20.0)
    assert mask_loss(right, masks).item() < 1e-3
    assert mask_loss(wrong, masks) > mask_loss(everywhere, masks) > 1
    assert mask_loss(torch.full_like(masks, -20.0), torch.zeros_like(masks)).item() < 1e-3


def test_a_batch_holds_what_the_programs_take():
    found = list(batches(SMALL, 5, 6, batch_size=3))
    assert len(found) == 2
    for batch in found:
        assert batch.images.shape == (3, 3, 64, 64) and batch.images.dtype == torch.float32
        assert batch.crops.shape == (3, 4, 3, 32, 32)
        assert batch.masks.shape == (3, 4, 16, 16) and set(batch.masks.unique().tolist()) <= {0.0, 1.0}
        assert batch.layouts.shape == (3,) and len(batch.captions) == len(batch.texts) == 3
        assert not batch.masks[~batch.present].any()
    screen = screens.render(5, 2 * SMALL.image_side)
    assert found[0].captions[0] == screen.caption
    assert torch.equal(found[0].present[0], torch.from_numpy(screen.present))


def test_rendering_in_workers_gives_the_same_batches():
    here = list(batches(SMALL, 0, 8, batch_size=4))
    there = list(batches(SMALL, 0, 8, batch_size=4, workers=2))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.crops, b.crops) and a.captions == b.captions


def test_the_loop_learns_the_masks_of_screens_that_it_sees_again(tmp_path):
    encoder = build_config(SMALL)
    model = RegionModel(encoder).requires_grad_(True)
    (seen,) = batches(SMALL, 0, 4, batch_size=4, crops=False)

    def losses(batch):
        return {"masks": mask_loss(model(batch.images), batch.masks)}

    def data(first, count):
        return itertools.repeat(seen, count // 4)

    assert train(model, losses, data, Schedule(steps=30, batch_size=4, warmup=5), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["masks"] < 0.75 * lines[0]["masks"]


def test_an_evaluation_gives_shares_for_every_region():
    found = evaluate_regions(build_config(SMALL), count=32)
    assert found.keys() == {name + suffix for name in screens.REGIONS for suffix in ("", " absent")}
    assert all(0 <= value <= 1 for value in found.values())


def test_an_interrupted_stage_ends_as_an_uninterrupted_one(tmp_path):
    schedule = Schedule(steps=4, batch_size=2, warmup=1)
    whole, parts = build_config(SMALL), build_config(SMALL)
    assert train_regions(whole, schedule, tmp_path / "whole", workers=0)
    calls = 0
    while not train_regions(parts, schedule, tmp_path / "parts", minutes=0, workers=0):
        parts = build_config(SMALL)  # another process knows nothing but the folder
        calls += 1
    assert calls == 3
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_a_folder_of_another_schedule_or_model_is_refused(tmp_path):
    schedule = Schedule(steps=1, batch_size=2)
    train_regions(build_config(SMALL), schedule, tmp_path, workers=0)
    with pytest.raises(ArgumentError, match="name another folder"):
        train_regions(build_config(SMALL), dataclasses.replace(schedule, steps=2), tmp_path, workers=0)
    other = build_config(dataclasses.replace(SMALL, neck_channels=32))
    with pytest.raises(ArgumentError, match="another model"):
        train_regions(other, schedule, tmp_path, workers=0)


def test_the_last_batch_has_what_is_left():
    assert [len(batch.captions) for batch in batches(SMALL, 0, 7, batch_size=3, crops=False)] == [3, 3, 1]


def test_an_encoder_without_masks_has_nothing_to_train(tmp_path):
    grid = build_config(dataclasses.replace(SMALL, regions="fixed_grid"))
    with pytest.raises(ArgumentError, match="'sam_lite', got 'fixed_grid'"):
        train_regions(grid, Schedule(steps=1, batch_size=2), tmp_path)


def test_the_learning_rate_rises_then_falls_to_a_hundredth():
    schedule = Schedule(steps=100, batch_size=1, learning_rate=1.0, warmup=10)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[9] == 1.0 and rates[100] == pytest.approx(0.01)
    assert all(a < b for a, b in itertools.pairwise(rates[:10]))
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
