"""Digests: what they hash, that int8 models have one wherever they run, and that they find where two runs part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from int8_files import picture, write_int8_encoder, write_ppm
from model_files import ProgramBuilder, write_model

import keypilot
from keypilot.cli import main
from keypilot.errors import ArgumentError

#: `GOLDEN` is the digest of the model and picture of tests/int8_files.py with this text, by the scalar kernels. After a
#: change of the numerics:
#:
#:     python tests/int8_files.py model.gguf picture.ppm
#:     KEYPILOT_ISA=scalar keypilot digest model.gguf picture.ppm --threads 1 --text "see you at 8" \
#:         --out tests/data/int8.digest
TEXT = "see you at 8"
GOLDEN = Path(__file__).parent / "data" / "int8.digest"

ISAS = keypilot.cpu_info()["detected"]


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory):
    return write_int8_encoder(tmp_path_factory.mktemp("int8") / "int8.gguf")


@pytest.fixture(scope="module")
def golden():
    return keypilot.Digest.load(GOLDEN)


def encoder(path, *, threads=1, isa=None):
    return keypilot.Encoder(keypilot.Model.load(path, threads=threads, isa=isa))


def digest_of(path, *, text=TEXT, **options):
    return keypilot.digest(encoder(path, **options), picture(), text=text)


def assert_same(found, expected):
    divergence = found.diff(expected, same_model=False)
    assert divergence is None, f"{divergence.tensor.path}, {divergence.tensor.operator}"


def hashes(run, item=0):
    """path -> hash of one item of the batch."""
    return {(t.path, t.operator): t.hashes[item if len(t.hashes) > 1 else 0] for t in run.tensors}


# ---- What is hashed ----


def xxh64(data: bytes) -> str:
    """XXH64 with seed 0, after its specification."""
    p1, p2, p3, p4, p5 = (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
    mask = 2**64 - 1

    def rotate(x, bits):
        return (x << bits | x >> (64 - bits)) & mask

    def step(accumulator, lane):
        return rotate((accumulator + lane * p2) & mask, 31) * p1 & mask

    rest = data
    if len(data) >= 32:
        lanes = [p1 + p2, p2, 0, -p1]
        while len(rest) >= 32:
            lanes = [step(a, int.from_bytes(rest[8 * i : 8 * i + 8], "little")) for i, a in enumerate(lanes)]
            rest = rest[32:]
        h = sum(map(rotate, lanes, (1, 7, 12, 18))) & mask
        for lane in lanes:
            h = ((h ^ step(0, lane)) * p1 + p4) & mask
    else:
        h = p5
    h += len(data)
    while len(rest) >= 8:
        h = (rotate(h ^ step(0, int.from_bytes(rest[:8], "little")), 27) * p1 + p4) & mask
        rest = rest[8:]
    if len(rest) >= 4:
        h = (rotate(h ^ int.from_bytes(rest[:4], "little") * p1 & mask, 23) * p2 + p3) & mask
        rest = rest[4:]
    for byte in rest:
        h = rotate(h ^ byte * p5 & mask, 11) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return f"{h ^ h >> 32:016x}"


def test_the_published_hashes_of_xxh64():
    assert xxh64(b"") == "ef46db3751d8e999"
    assert xxh64(b"abc") == "44bc2cf5ad770999"
    assert xxh64(b"Nobody inspects the spammish repetition") == "fbcea83c8a378bf1"


def test_texts_of_every_length_have_the_hash_of_xxh64(int8_file):
    model = encoder(int8_file)
    for size in range(100):
        text = bytes(7 * i % 128 for i in range(size))
        words = keypilot.digest(model, picture(), text=text).runs[0].title.split()
        assert words[words.index("text") + 1 :][:2] == [str(size), xxh64(text)]


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory):
    """doubled = x + x, scaled = doubled * 1e-20, and total, of the whole batch, with odd names."""
    p = ProgramBuilder()
    x = p.input("x", "N,3")
    doubled = p.op("binary", [x, x], "doubled twice, 100%", "N,3", "fn=add")
    flat = p.op("alias", [doubled], "flat", "3N", "shape=3N")
    scaled = p.op("binary", [flat, p.weight("tiny", np.full(1, 1e-20, np.float32))], "scaled", "3N", "fn=mul")
    turned = p.op("rearrange", [doubled], "turned", "3,N", "dims=3,N strides=1,3 shape=3,N")
    p.port("outputs", "scaled", scaled, "3N")
    p.port("outputs", "turned", turned, "3,N")
    path = tmp_path_factory.mktemp("plain") / "plain.gguf"
    return write_model(path, {"main": p}, precision="int8")


def test_every_computed_tensor_has_a_line_with_the_hash_of_its_bytes(plain_file):
    x = np.array([[1, -2, 3], [0.5, 0, 7]], np.float32)
    digest = keypilot.digest(keypilot.Model.load(plain_file), x)
    (run,) = digest.runs
    assert run.title == "run main"
    scaled = 2 * x * np.float32(1e-20)
    expected = [
        ("x", "input", (1, 3), (), [x[:1], x[1:]]),
        ("doubled twice, 100%", "binary", (1, 3), ("x", "x"), [2 * x[:1], 2 * x[1:]]),
        ("scaled", "binary", (3,), ("doubled twice, 100%", "tiny"), [scaled[0], scaled[1]]),
        ("turned", "rearrange", (3, 2), ("doubled twice, 100%",), [2 * x.T]),
        ("scaled", "output", (3,), ("scaled",), [scaled[0], scaled[1]]),
        ("turned", "output", (3, 2), ("turned",), [2 * x.T]),
    ]
    found = [(t.name, t.operator, t.shape, t.inputs, list(t.hashes)) for t in run.tensors]
    assert found == [(*line, [xxh64(item.tobytes()) for item in items]) for *line, items in expected]


def test_a_negative_zero_is_another_value(plain_file):
    model = keypilot.Model.load(plain_file)
    zeros = np.zeros((1, 3), np.float32)
    divergence = keypilot.digest(model, zeros).diff(keypilot.digest(model, -zeros))
    assert (divergence.tensor.operator, divergence.tensor.name) == ("input", "x")


def test_a_digest_covers_every_program_and_what_lies_between(int8_file):
    (run,) = digest_of(int8_file).runs
    programs = list(dict.fromkeys(t.program for t in run.tensors))
    assert programs == ["pipeline", "screen", "roi", "text", "user", "fusion"]
    model = encoder(int8_file).model
    for name in model.programs:
        computed = [t.name for t in run.tensors if t.program == name and t.operator not in ("input", "output")]
        assert computed == [op.output for op in model.cost(name).ops]
    out = encoder(int8_file).encode(picture(), text=TEXT)
    found = hashes(run)
    for i in range(4):
        assert found[f"pipeline/regions.{i}.mask", "region"] == xxh64(out.masks[i].tobytes())
        assert found[f"pipeline/regions.{i}.box", "region"] == xxh64(out.boxes[i].tobytes())
    assert found["fusion/context", "output"] == xxh64(out.context.tobytes())
    assert {t.dtype for t in run.tensors} == {"f32", "i32", "bool", "u8", "i8"}


def test_a_digest_tells_neither_the_picture_nor_the_text(int8_file):
    assert "secret" not in digest_of(int8_file, text="my secret").text


# ---- Equal everywhere ----


def test_the_golden_digest_holds(int8_file, golden):
    assert_same(digest_of(int8_file), golden)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_it_holds_for_every_instruction_set_and_thread_count(int8_file, golden, isa, threads):
    digest = digest_of(int8_file, isa=isa, threads=threads)
    assert_same(digest, golden)
    assert (digest.header["isa"], digest.header["threads"]) == (isa, str(threads))


def test_it_holds_for_every_picture_of_a_batch(int8_file, golden):
    pictures = [picture(), picture(90, 150), picture(), picture(64, 64), picture()]
    digest = keypilot.digest(encoder(int8_file, threads=2), pictures, text=TEXT)
    assert len(digest.runs) == 5
    for i in (0, 2, 4):
        assert digest.runs[i] == golden.runs[0]


@pytest.mark.parametrize("program", ["screen", "roi", "text", "fusion"])
def test_an_item_of_a_batch_has_the_hashes_that_it_has_alone(int8_file, program):
    model = keypilot.Model.load(int8_file, threads=2)
    rng = np.random.default_rng(5)
    inputs = {}
    for port in model.programs[program].inputs:
        shape = [5, *({"T": 9}.get(size, size) for size in port.shape[1:])]
        if port.dtype == np.float32:
            inputs[port.name] = rng.standard_normal(shape, np.float32)
        else:
            inputs[port.name] = rng.integers(1, 2 if port.name == "attention_mask" else 4, shape)
    (batch,) = keypilot.digest(model, program, **inputs).runs
    for i in range(5):
        (alone,) = keypilot.digest(model, program, **{name: x[i : i + 1] for name, x in inputs.items()}).runs
        assert hashes(batch, i) == hashes(alone)


def test_a_host_that_flushes_denormals_changes_nothing(plain_file, int8_file, golden):
    torch = pytest.importorskip("torch", reason="sets the processor's mode")
    x = np.full((1, 3), 1e-20, np.float32)  # scaled is about 2e-40, a denormal
    plain = keypilot.Model.load(plain_file, threads=2)
    before = keypilot.digest(plain, x)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        assert np.float32(1e-20) * np.float32(1e-20) == 0
        assert_same(keypilot.digest(plain, x), before)
        assert_same(digest_of(int8_file, threads=2), golden)
    finally:
        torch.set_flush_denormal(False)


def digest_of_process(script, path, folder, **environment):
    """The digest that a new process prints after running `script`."""
    write_ppm(folder / "p.ppm", picture())
    script += f"\nfrom keypilot.cli import main\nmain({['digest', str(path), 'p.ppm', '--text', TEXT]!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return keypilot.Digest.parse(done.stdout)


@pytest.mark.parametrize("script", ["import keypilot, torch", "import torch, keypilot"])
def test_it_holds_before_and_after_torch_is_imported(tmp_path, int8_file, golden, script):
    pytest.importorskip("torch", reason="is what is imported")
    assert_same(digest_of_process(script, int8_file, tmp_path), golden)


def test_the_environment_caps_the_instruction_set(tmp_path, int8_file, golden):
    for isa in ISAS:
        digest = digest_of_process("", int8_file, tmp_path, KEYPILOT_ISA=isa)
        assert digest.header["isa"] == isa
        assert_same(digest, golden)


# ---- The whole encoder, on real screenshots ----

SCREENS = sorted((Path(__file__).parents[2] / "shared" / "screens").glob("*.png"))

needs_screens = pytest.mark.skipif(not SCREENS, reason="the real screenshots (../shared/screens) are not there")


@pytest.fixture(scope="module")
def base_int8():
    pytest.importorskip("torch", reason="makes the model")
    from keypilot.cache import preset_model

    return preset_model("keypilot-base", "int8")


@pytest.mark.slow
@needs_screens
def test_the_encoder_has_one_digest_on_every_instruction_set_and_thread_count(base_int8):
    texts = ["word " * (7 * i) for i in range(len(SCREENS))]

    def digests(isa, threads, screens):
        shared = encoder(base_int8, isa=isa, threads=threads)
        return [keypilot.digest(shared, *sample) for sample in zip(screens, texts, strict=False)]

    expected = digests(ISAS[-1], 1, SCREENS)
    for isa in ISAS:
        for threads in range(1, 5):
            screens = SCREENS[:2] if isa == "scalar" else SCREENS  # plain C takes long
            for found, wanted in zip(digests(isa, threads, screens), expected, strict=False):
                assert_same(found, wanted)


@pytest.mark.slow
@needs_screens
def test_the_encoders_programs_have_one_digest_at_every_position_of_a_batch(base_int8):
    pytest.importorskip("torch", reason="runs the reference")
    from keypilot.compare.parity import stack_inputs
    from keypilot.reference.pipeline import Pipeline
    from keypilot.reference.presets import build

    pipeline = Pipeline(build("keypilot-base"))
    encodings = [pipeline.encode(screen, TEXT, user) for user, screen in enumerate(SCREENS[:5])]
    model = keypilot.Model.load(base_int8, threads=2)
    for program in model.programs:
        inputs = stack_inputs(program, encodings)
        (batch,) = keypilot.digest(model, program, **inputs).runs
        for i in range(len(next(iter(inputs.values())))):
            (alone,) = keypilot.digest(model, program, **{name: x[i : i + 1] for name, x in inputs.items()}).runs
            assert hashes(batch, i) == hashes(alone)


# ---- Finding where two runs part ----


def with_flipped_bit(path, weight, target):
    """A copy of the model file in which the lowest bit of the weight's middle element differs."""
    array = keypilot.Model.load(path).weights[weight]
    content = bytearray(path.read_bytes())
    start = content.find(array.tobytes())
    content[start + array.nbytes // 2 // array.itemsize * array.itemsize] ^= 1
    target.write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("weight", "program", "operator", "output"),
    [
        ("stem.weight", "screen", "conv2d", "stem"),
        ("smooth.weight", "screen", "conv2d", "smooth"),
        ("qkv.weight", "screen", "linear", "qkv"),
        ("norm.weight", "screen", "layer_norm", "norm"),
        ("roi.bias", "roi", "linear", "roi"),
        ("text.tokens.q4", "text", "embedding", "text.token"),
        ("text.places", "text", "embedding", "text.place"),
        ("fusion.down.weight", "fusion", "linear", "fusion.narrow"),
    ],
)
def test_a_flipped_bit_of_a_weight_is_found_at_the_operator_that_reads_it(
    tmp_path, int8_file, weight, program, operator, output
):
    damaged = with_flipped_bit(int8_file, weight, tmp_path / "damaged.gguf")
    text = "é" * 20  # reads the middle rows of the tables: token 132 is the byte C3
    here, there = digest_of(int8_file, text=text), digest_of(damaged, text=text)
    found = here.diff(there, same_model=False)
    tensor = found.tensor
    assert (tensor.program, tensor.operator, tensor.name) == (program, operator, output)
    assert weight.removesuffix(".q4") in found.weights
    assert set(found.equal_inputs).isdisjoint(found.weights)
    assert 0 < found.differing < found.total


def test_the_difference_of_one_item_of_a_batch_is_named(int8_file):
    model = keypilot.Model.load(int8_file)
    crops = np.random.default_rng(0).standard_normal((3, 3, 32, 32), np.float32)
    here = keypilot.digest(model, "roi", crops=crops)
    crops[2, 1, 4, 4] += 1
    found = here.diff(keypilot.digest(model, "roi", crops=crops))
    assert (found.tensor.path, found.item) == ("roi/crops", 2)


def test_a_digest_is_read_back_as_it_was_written(tmp_path, plain_file):
    digest = keypilot.digest(keypilot.Model.load(plain_file), np.ones((2, 3), np.float32))
    digest.save(tmp_path / "d")
    again = keypilot.Digest.load(tmp_path / "d")
    assert again == digest
    assert digest.text.isascii()


def test_digests_of_other_models_pictures_or_graphs_are_not_compared(tmp_path, int8_file, plain_file):
    here = digest_of(int8_file)
    with pytest.raises(ArgumentError, match="not of the same pictures and texts"):
        here.diff(digest_of(int8_file, text="another text"))
    with pytest.raises(ArgumentError, match="not of the same model"):
        here.diff(digest_of(with_flipped_bit(int8_file, "stem.weight", tmp_path / "d.gguf")))
    with pytest.raises(ArgumentError, match="not of the same number of runs"):
        here.diff(keypilot.digest(encoder(int8_file), [picture()] * 2, text=TEXT))
    model = keypilot.Model.load(plain_file)
    one, two = (keypilot.digest(model, np.ones((n, 3), np.float32)) for n in (1, 2))
    with pytest.raises(ArgumentError, match="not of the same graph"):
        one.diff(two)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("keypilot-digest 1", "keypilot-digest 2"), "line 1: expected 'keypilot-digest 1'"),
        (lambda text: text.replace("threads", "thread"), "line 4: expected 'threads ...'"),
        (lambda text: text[: text.index("end ")], "is cut short"),
        (lambda text: text.replace("\n20 ", "\n21 "), "expected tensor 20"),
        (lambda text: text.replace(" 1x32 ", " 1x?? "), "expected a shape"),
        (lambda text: text[:-2] + "1\n", "expected 'end "),
        (lambda text: text + "more\n", "expected an empty line between runs"),
        (lambda _: "GGUF\0\1", "line 1: expected 'keypilot-digest 1'"),
        (lambda _: "", "line 1: expected 'keypilot-digest 1'"),
    ],
)
def test_what_is_no_digest_is_refused(golden, damage, message):
    with pytest.raises(ArgumentError) as caught:
        keypilot.Digest.parse(damage(golden.text), "file.digest")
    assert message in str(caught.value)
    assert str(caught.value).startswith("file.digest: ")


# ---- The command ----


@pytest.fixture
def files(tmp_path, monkeypatch, int8_file):
    monkeypatch.chdir(tmp_path)
    write_ppm(tmp_path / "a.ppm", picture())
    write_ppm(tmp_path / "b.ppm", picture(70, 200))
    return str(int8_file)


def test_the_command_writes_what_the_function_gives(files, capsys):
    assert main(["digest", files, "a.ppm", "b.ppm", "--text", TEXT, "--threads", "1"]) == 0
    expected = keypilot.digest(encoder(files), [picture(), picture(70, 200)], text=TEXT)
    assert capsys.readouterr().out == expected.text
    assert main(["digest", files, "a.ppm", "b.ppm", "--text", TEXT, "--threads", "1", "--out", "d"]) == 0
    assert Path("d").read_text() == expected.text
    assert "2 pictures" in capsys.readouterr().out
    assert main(["digest", files, "a.ppm", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["precision"] == "int8"
    assert data["runs"][0]["tensors"][0]["name"] == "square"


def test_the_command_says_where_digests_part(files, capsys):
    damaged = with_flipped_bit(Path(files), "mix.weight", Path("damaged.gguf"))
    main(["digest", files, "a.ppm", "--threads", "1", "--out", "one"])
    main(["digest", files, "a.ppm", "--threads", "2", "--out", "two"])
    main(["digest", str(damaged), "a.ppm", "--threads", "1", "--out", "other"])
    capsys.readouterr()

    assert main(["digest", "--diff", "one", "two"]) == 0
    text = capsys.readouterr().out
    assert "differs" in next(line for line in text.splitlines() if line.startswith("threads"))
    assert "equal: " in text

    assert main(["digest", "--diff", "one", "other"]) == 2
    assert "not of the same model" in capsys.readouterr().err

    assert main(["digest", "--diff", "one", "other", "--across-models"]) == 1
    text = capsys.readouterr().out
    assert "first screen/mixed (run 0, tensor 16)" in text
    assert "mix.weight" in text

    assert main(["digest", "--diff", "one", "other", "--across-models", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["first"]["tensor"] == "screen/mixed"
    assert data["first"]["equal_inputs"] == ["attention", "tokens"]
    assert list(data["header"]) == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["digest"],
        ["digest", "model.gguf"],
        ["digest", "--diff", "one"],
        ["digest", "--diff", "one", "missing"],
        ["digest", "model.gguf", "--diff", "one", "two"],
        ["digest", "model.gguf", "a.ppm", "--across-models"],
    ],
)
def test_wrong_usage_exits_with_2_and_one_line(files, capsys, arguments):
    try:
        code = main(arguments)
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
