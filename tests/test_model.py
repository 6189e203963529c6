"""keypilot.Model: arrays in, arrays out, taps, weights, errors, threads."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from model_files import ProgramBuilder, write_model

import keypilot
from keypilot import _core

NHWC = (0, 2, 3, 1)

Array = np.ndarray[Any, Any]


def picture_program() -> ProgramBuilder:
    """y = relu(x), on a picture that lies in memory as N, H, W, C."""
    program = ProgramBuilder()
    x = program.input("x", "N,3,4,5", order=NHWC)
    y = program.op("unary", [x], "act", "N,4,5,3", "fn=relu")
    program.port("outputs", "y", y, "N,3,4,5", NHWC)
    program.port("taps", "act", y, "N,3,4,5", NHWC)
    return program


def linear_program() -> ProgramBuilder:
    """y = relu(a weight^T + bias) + b, tapped after the linear layer."""
    rng = np.random.default_rng(0)
    program = ProgramBuilder()
    a, b = program.input("a", "N,6"), program.input("b", "N,4")
    weight = program.weight("head.weight", rng.standard_normal((4, 6), np.float32))
    bias = program.weight("head.bias", rng.standard_normal(4, np.float32))
    linear = program.op("linear", [a, weight, bias], "head", "N,4")
    relu = program.op("unary", [linear], "act", "N,4", "fn=relu")
    total = program.op("binary", [relu, b], "total", "N,4", "fn=add")
    program.port("outputs", "y", total, "N,4")
    program.port("taps", "head", linear, "N,4")
    program.port("taps", "act", relu, "N,4")
    return program


def text_program() -> ProgramBuilder:
    program = ProgramBuilder()
    ids = program.input("ids", "N,T", "i32")
    table = program.weight("embedding.weight", np.arange(30, dtype=np.float32).reshape(10, 3))
    rows = program.op("embedding", [table, ids], "rows", "N,T,3")
    program.port("outputs", "rows", rows, "N,T,3")
    program.port("outputs", "ids", ids, "N,T")
    return program


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    programs = {"picture": picture_program(), "linear": linear_program(), "text": text_program()}
    return write_model(tmp_path_factory.mktemp("model") / "model.gguf", programs)


@pytest.fixture(scope="module")
def model(model_file: Path) -> keypilot.Model:
    return keypilot.Model.load(model_file, threads=2)


def pictures(batch: int = 2) -> Array:
    return np.random.default_rng(1).standard_normal((batch, 3, 4, 5)).astype(np.float32)


def linear_inputs(batch: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(2)
    return {"a": rng.standard_normal((batch, 6), np.float32), "b": rng.standard_normal((batch, 4), np.float32)}


# ---- Arrays ----


def test_arrays_go_in_and_come_out_in_pytorchs_order(model: keypilot.Model) -> None:
    x = pictures()
    y = model.run("picture", x=x)["y"]
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_an_output_is_a_transposed_view_of_memory_order(model: keypilot.Model) -> None:
    y = model.run("picture", x=pictures())["y"]
    assert y.transpose(NHWC).flags.c_contiguous
    assert y.flags.writeable


def test_outputs_are_fresh(model: keypilot.Model) -> None:
    first = model.run("picture", x=pictures())["y"]
    before = first.copy()
    model.run("picture", x=pictures() + 1)
    np.testing.assert_array_equal(first, before)


@given(
    axes=st.permutations(range(4)),
    reverse=st.lists(st.booleans(), min_size=4, max_size=4),
    dtype=st.sampled_from(["float32", "float64", ">f4", "float16"]),
)
def test_any_layout_of_the_same_numbers_gives_the_same_result(
    model: keypilot.Model, axes: list[int], reverse: list[bool], dtype: str
) -> None:
    x = pictures().astype(np.float16)
    stored = np.ascontiguousarray(x.transpose(axes)[tuple(slice(None, None, -1 if r else 1) for r in reverse)]).astype(
        dtype
    )
    view = stored[tuple(slice(None, None, -1 if r else 1) for r in reverse)].transpose(np.argsort(axes))
    np.testing.assert_array_equal(model.run("picture", x=view)["y"], np.maximum(x.astype(np.float32), 0))


def test_lists_and_integers_are_numbers_too(model: keypilot.Model) -> None:
    x = np.arange(-30, 30).reshape(1, 3, 4, 5)
    np.testing.assert_array_equal(model.run("picture", x=x.tolist())["y"], np.maximum(x, 0))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", ">i8"])
def test_token_ids_of_any_integer_type_are_taken(model: keypilot.Model, dtype: str) -> None:
    ids = np.array([[1, 2, 9], [0, 4, 4]], dtype)
    rows = model.run("text", ids=ids)["rows"]
    np.testing.assert_array_equal(rows, np.arange(30, dtype=np.float32).reshape(10, 3)[ids.astype(int)])


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**63])
def test_an_integer_that_does_not_fit_int32_is_refused(model: keypilot.Model, number: int) -> None:
    with pytest.raises(keypilot.ArgumentError, match=f"input 'ids'.*int32.*{number}"):
        model.run("text", ids=np.array([[number]]))


def test_an_input_can_be_an_output(model: keypilot.Model) -> None:
    ids = np.array([[3, 1]])
    np.testing.assert_array_equal(model.run("text", ids=ids)["ids"], ids)


# ---- Calls ----


def test_a_model_with_one_program_is_called(tmp_path: Path) -> None:
    model = keypilot.Model.load(write_model(tmp_path / "m.gguf", {"main": linear_program()}))
    inputs = linear_inputs()
    weight, bias = model.weights["head.weight"], model.weights["head.bias"]
    expected = np.maximum(inputs["a"] @ weight.T + bias, 0) + inputs["b"]
    for y in (model(inputs["a"], inputs["b"]), model(inputs["a"], b=inputs["b"]), model(**inputs)):
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(keypilot.ArgumentError, match="twice"):
        model(inputs["a"], a=inputs["a"])


def test_several_outputs_come_as_a_dict(tmp_path: Path) -> None:
    model = keypilot.Model.load(write_model(tmp_path / "m.gguf", {"main": text_program()}))
    assert list(model(np.array([[1]]))) == ["rows", "ids"]


def test_a_model_with_several_programs_is_not_called(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.ArgumentError, match="picture, linear, text"):
        model(pictures())


def test_one_thread_and_several_give_the_same(model: keypilot.Model) -> None:
    inputs = linear_inputs(64)
    np.testing.assert_array_equal(
        model.with_threads(1).run("linear", **inputs)["y"], model.with_threads(4).run("linear", **inputs)["y"]
    )


@pytest.mark.parametrize("isa", _core.cpu_isa())
def test_every_instruction_set_gives_the_same_bytes(model_file: Path, isa: str) -> None:
    capped = keypilot.Model.load(model_file, isa=isa)
    assert capped.isa == isa
    y = capped.run("picture", x=pictures())["y"]
    np.testing.assert_array_equal(y, np.maximum(pictures(), 0))


def test_threads_that_share_a_model_get_what_they_get_alone(model: keypilot.Model) -> None:
    inputs = [linear_inputs(batch) for batch in range(1, 9)]
    alone = [model.run("linear", **one)["y"] for one in inputs]
    wrong: list[int] = []
    start = threading.Barrier(len(inputs))

    def work(i: int) -> None:
        start.wait()
        with model.tap("head") as taps:
            for _ in range(50):
                same = np.array_equal(model.run("linear", **inputs[i])["y"], alone[i])
                if not same or taps["head"].shape != (i + 1, 4):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- What the file holds ----


def test_programs_list_their_ports(model: keypilot.Model) -> None:
    assert list(model.programs) == ["picture", "linear", "text"]
    (x,) = model.programs["picture"].inputs
    assert (x.name, x.dtype, x.shape) == ("x", np.float32, ("N", 3, 4, 5))
    assert model.programs["text"].inputs[0].shape == ("N", "T")


def test_weights_are_read_only_views_that_keep_the_model_alive(model_file: Path) -> None:
    weight = keypilot.Model.load(model_file).weights["embedding.weight"]
    assert not weight.flags.writeable
    assert not weight.flags.owndata
    np.testing.assert_array_equal(weight, np.arange(30, dtype=np.float32).reshape(10, 3))


def test_metadata_is_a_mapping_of_the_files_keys(model: keypilot.Model) -> None:
    assert model.metadata["general.architecture"] == "keypilot"
    assert model.metadata["keypilot.format_version"] == 1
    assert model.metadata["keypilot.programs"] == ("picture", "linear", "text")
    assert len(model.metadata) == len(list(model.metadata))
    with pytest.raises(KeyError, match="no.such.key"):
        model.metadata["no.such.key"]


def test_from_bytes_is_load(model_file: Path) -> None:
    data = bytearray(model_file.read_bytes())
    model = keypilot.Model.from_bytes(data)
    data[:] = bytes(len(data))
    assert model.file_bytes == model_file.stat().st_size
    np.testing.assert_array_equal(model.run("picture", x=pictures())["y"], np.maximum(pictures(), 0))


def test_cost_counts_what_the_shapes_say(model: keypilot.Model) -> None:
    cost = model.cost("linear", n=7)
    assert cost.macs == 7 * 6 * 4
    assert [op.type for op in cost.ops] == ["linear", "unary", "binary"]
    assert [op.output_bytes for op in cost.ops] == [7 * 4 * 4] * 3
    assert cost.arena_bytes >= 7 * 4 * 4
    assert model.cost("linear", n=70).macs == 10 * cost.macs


# ---- Taps ----


def test_a_tap_records_by_module_path(model: keypilot.Model) -> None:
    inputs = linear_inputs()
    with model.tap("head") as taps:
        model.run("linear", **inputs)
    assert list(taps) == ["head"]
    expected = inputs["a"] @ model.weights["head.weight"].T + model.weights["head.bias"]
    np.testing.assert_allclose(taps["head"], expected, rtol=1e-5, atol=1e-6)


def test_a_tap_gives_pytorchs_order(model: keypilot.Model) -> None:
    with model.tap("picture/*") as taps:
        model.run("picture", x=pictures())
    np.testing.assert_array_equal(taps["act"], np.maximum(pictures(), 0))


def test_a_path_that_several_programs_recorded_names_the_program(model: keypilot.Model) -> None:
    with model.tap() as taps:
        model.run("picture", x=pictures())
        assert list(taps) == ["act"]
        model.run("linear", **linear_inputs())
    assert list(taps) == ["picture/act", "head", "linear/act"]
    assert taps["picture/act"].shape == (2, 3, 4, 5)
    assert taps["linear/head"] is taps["head"]
    with pytest.raises(KeyError, match="several programs"):
        taps["act"]
    assert "act" not in taps


def test_nested_taps_each_record_their_own(model: keypilot.Model) -> None:
    with model.tap("head") as outer:
        with model.tap("linear/act") as inner:
            model.run("linear", **linear_inputs())
        model.run("linear", **linear_inputs(5))
    assert list(outer) == ["head"] and outer["head"].shape == (5, 4)
    assert list(inner) == ["act"] and inner["act"].shape == (3, 4)


def test_a_tap_ends_with_its_block(model: keypilot.Model) -> None:
    with pytest.raises(ZeroDivisionError), model.tap() as taps:
        raise ZeroDivisionError
    model.run("linear", **linear_inputs())
    assert len(taps) == 0


def test_a_pattern_that_matches_nothing_is_refused(model: keypilot.Model) -> None:
    with (
        pytest.raises(keypilot.ArgumentError, match=re.escape("no tensor of the model matches 'heads.*'")),
        model.tap("heads.*"),
    ):
        pass


# ---- Errors ----


def test_errors_are_one_tree() -> None:
    for name in keypilot.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(keypilot, name), keypilot.KeyPilotError)
    assert issubclass(keypilot.ShapeError, ValueError)
    assert issubclass(keypilot.ArgumentError, ValueError)
    assert issubclass(keypilot.VersionError, keypilot.ModelFileError)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 6), (1, 4, 5, 3), (0, 3, 4, 5), (4097, 3, 4, 5)])
def test_a_wrong_shape_is_named_with_program_and_input(model: keypilot.Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(keypilot.ShapeError, match=r"picture.*x.*expected shape"):
        model.run("picture", x=np.zeros(shape, np.float32))


def test_inputs_must_agree_on_the_batch(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.ShapeError, match="linear"):
        model.run("linear", a=np.zeros((2, 6)), b=np.zeros((3, 4)))


@pytest.mark.parametrize(
    "value", [np.zeros((1, 3, 4, 5), complex), np.full((1, 3, 4, 5), "x"), np.full((1, 3, 4, 5), None)]
)
def test_what_is_not_a_real_number_is_refused(model: keypilot.Model, value: Array) -> None:
    with pytest.raises(keypilot.ShapeError, match=r"input 'x': expected real numbers.*got dtype"):
        model.run("picture", x=value)


def test_token_ids_must_be_integers(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.ShapeError, match=r"input 'ids': expected integers.*float64"):
        model.run("text", ids=np.array([[1.0]]))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300])
def test_a_number_that_is_not_finite_is_refused(model: keypilot.Model, number: float) -> None:
    x = np.zeros((1, 3, 4, 5))
    x[0, 1, 2, 3] = number
    with np.errstate(over="ignore"), pytest.raises(keypilot.ArgumentError, match=r"'x'.*finite"):
        model.run("picture", x=x)


def test_an_id_outside_the_table_is_an_error(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.KeyPilotError, match="10"):
        model.run("text", ids=np.array([[10]]))


@pytest.mark.parametrize("inputs", [{}, {"y": 0}, {"x": 0, "y": 0}])
def test_wrong_input_names_are_listed(model: keypilot.Model, inputs: dict[str, int]) -> None:
    with pytest.raises(keypilot.ArgumentError, match=r"program 'picture': expected the inputs \('x',\), got \["):
        model.run("picture", **inputs)


def test_an_unknown_program_is_refused(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.ArgumentError, match="picture, linear, text, got 'vision'"):
        model.run("vision")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.gguf"):
        keypilot.Model.load(tmp_path / "absent.gguf")
    with pytest.raises(OSError, match=str(tmp_path)):
        keypilot.Model.load(tmp_path)


def test_a_damaged_file_is_a_model_file_error(model_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model_file.read_bytes()[: model_file.stat().st_size // 2])
    with pytest.raises(keypilot.ModelFileError, match="cut.gguf"):
        keypilot.Model.load(cut)
    with pytest.raises(keypilot.ModelFileError):
        keypilot.Model.from_bytes(b"")


def test_an_unknown_format_version_names_both(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", {"picture": picture_program()}, version=7)
    with pytest.raises(keypilot.VersionError, match=r"7.*1"):
        keypilot.Model.load(path)


def test_a_model_without_tokenizer_says_so(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.UnsupportedError, match="tokenizer"):
        model.tokenize("text")


def test_a_model_that_is_no_encoder_says_so(model: keypilot.Model) -> None:
    with pytest.raises(keypilot.UnsupportedError):
        keypilot.Encoder(model)


# ---- Settings ----


def test_the_environment_sets_threads_and_instruction_set(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYPILOT_THREADS", "3")
    monkeypatch.setenv("KEYPILOT_ISA", "scalar")
    model = keypilot.Model.load(model_file)
    assert (model.threads, model.isa) == (3, "scalar")
    assert keypilot.cpu_info() == {"detected": _core.cpu_isa(), "isa": "scalar", "threads": 3}
    assert keypilot.Model.load(model_file, threads=1, isa=_core.cpu_isa()[-1]).isa == _core.cpu_isa()[-1]


@pytest.mark.parametrize("text", ["0", "-1", "65", "two", "1.5", "²"])
def test_a_bad_number_of_threads_is_named(model_file: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KEYPILOT_THREADS", text)
    with pytest.raises(
        keypilot.ArgumentError, match=f"KEYPILOT_THREADS: expected an integer from 1 to 64, got .*{text}"
    ):
        keypilot.Model.load(model_file)


def test_a_bad_instruction_set_is_named(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYPILOT_ISA", "sse9")
    with pytest.raises(keypilot.ArgumentError, match="KEYPILOT_ISA: expected one of scalar, .*, got 'sse9'"):
        keypilot.Model.load(model_file)
    with pytest.raises(keypilot.ArgumentError, match="isa: expected one of"):
        keypilot.Model.load(model_file, isa="sse9")


# ---- Operators ----


def test_the_documented_operators_are_those_of_the_core() -> None:
    page = (Path(__file__).parent.parent / "docs" / "operators.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert {schema["name"] for schema in _core.op_schemas()} == documented


def test_a_schema_says_what_an_attribute_may_be() -> None:
    schemas = {schema["name"]: schema for schema in _core.op_schemas()}
    (fn,) = schemas["unary"]["attributes"]
    assert fn["name"] == "fn" and fn["kind"] == "word" and fn["required"] and "silu" in fn["words"]
    stride = next(attribute for attribute in schemas["conv2d"]["attributes"] if attribute["name"] == "stride")
    assert (stride["kind"], stride["min_count"], stride["max_count"], stride["default"]) == ("int", 2, 2, 1)
