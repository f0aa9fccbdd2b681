"""An option is declared once, as a field of a model; every entry point is made from it."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import get_args

import pytest
from pydantic import BaseModel

import flows.options
from flows.cli.arguments import add_options, help_text, read_options
from flows.cli.examples import EXAMPLES
from flows.cli.main import COMMANDS, make_parser
from flows.options.cluster import ClusterOptions
from flows.options.declared import options_of, words_of
from flows.options.evaluate import EvaluateFiles, EvaluateOptions
from flows.options.segment import SegmentFiles, SegmentOptions
from flows.options.train import TrainFiles, TrainOptions
from pipeline.evaluation.request import EvaluateRequest
from pipeline.segmentation.request import SegmentRequest

MODULES = [
    import_module(f"flows.options.{module.name}") for module in iter_modules(flows.options.__path__)
]
MODELS = [
    value
    for module in MODULES
    for value in vars(module).values()
    if isinstance(value, type)
    and issubclass(value, BaseModel)
    and value.__module__ == module.__name__
]
OPTIONS = [
    pytest.param(model, option, id=f"{model.__name__}.{option.field}")
    for model in MODELS
    for option in options_of(model)
]

ADDED = """
import contextlib, io, json, sys
from typing import Annotated
from pydantic import Field
from flows.options import segment
from flows.options.declared import Shell

class SegmentOptions(segment.SegmentOptions):
    sharpness: Annotated[int | None, Shell(segment.COMPUTATION)] = Field(
        None, description="Added by a test", examples=[7]
    )

    def request(self, **files):
        without = self.model_dump(exclude={"sharpness"})
        return segment_options(**without).request(**files)

segment_options, segment.SegmentOptions = segment.SegmentOptions, SegmentOptions

from flows.cli.main import main
from flows.segment_volume import segment_volume

def printed(*argv):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main(argv)
    return out.getvalue()

commands = {"segment": [], "plan": [], "submit": ["segment"], "finish": [], "preflight": []}
helps = {name: printed(name, *more, "--help") for name, more in commands.items()}
form = segment_volume.parameters.definitions["SegmentOptions"]["properties"]
run = ["in.zarr", "out.zarr", "--weights", sys.argv[1], "--sharpness", "3", "--dry-run"]
print(json.dumps([helps, form.get("sharpness"), printed("submit", "segment", *run)]))
"""
"""A copy of the model with one option more takes its place, before anything else is imported."""


def test_an_option_added_to_the_model_is_at_every_entry_point(tmp_path, weights):
    import json

    import numpy as np
    import zarr

    zarr.create_array(tmp_path / "in.zarr", data=np.full((8, 32, 32), 7, np.uint8))
    (tmp_path / "added.py").write_text(ADDED)
    command = [sys.executable, "-P", "added.py", weights("3d")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    helps, form, script = json.loads(ran.stdout)
    for name, text in helps.items():
        assert "--sharpness N" in text, name
        assert "added by a test (e.g. 7)" in text, name
    assert form["description"] == "Added by a test"
    assert form["examples"] == [7]
    assert " --sharpness 3" in script


def test_the_models_of_every_module_are_checked():
    assert {SegmentFiles, SegmentOptions, ClusterOptions, EvaluateFiles, TrainOptions} < {*MODELS}
    assert {model.__module__ for model in MODELS} >= {
        f"flows.options.{name}" for name in ("convert", "mask", "preview", "weights")
    }


@pytest.mark.parametrize(("model", "option"), OPTIONS)
def test_an_option_has_a_description_that_starts_with_a_capital_and_has_no_full_stop(model, option):
    assert option.description[:1].isupper() or option.description.split(",")[0] in ("none", "local")
    assert not option.description.endswith(".")


@pytest.mark.parametrize(("model", "option"), OPTIONS)
def test_a_help_text_is_the_description_with_example_and_default(model, option):
    text = help_text(option)
    said, _, default = option.description.partition(" (default: ")
    assert text.lower().startswith(said.lower())
    has_default = option.default is not None and option.default is not False
    assert text.count("default: ") == bool(default or has_default)
    assert text.count("(") == text.count(")")


@pytest.mark.parametrize(("model", "option"), OPTIONS)
def test_what_an_option_writes_it_reads(model, option):
    """Examples and choices, by way of the shell's words."""
    if option.positional:
        pytest.skip("its word is its value")
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, model, all_optional=True)
    values = [option.example, *(option.choices or ()), option.type is bool or None]
    for value in [value for value in values if value is not None]:
        found = getattr(parser.parse_args(option.words(value)), option.field)
        assert found == value, option.words(value)


SELECTIONS = (
    (SegmentOptions, "channel"), (SegmentOptions, "level"), (TrainOptions, "channel"),
    (TrainOptions, "level"), (EvaluateOptions, "scores"),
)  # fmt: skip


@pytest.mark.parametrize(("model", "field"), SELECTIONS)
def test_a_number_selects_the_same_in_the_shell_the_form_and_a_batch_script(model, field):
    """As text: the pipeline takes a text for a name first, then for a number."""
    parser = argparse.ArgumentParser()
    add_options(parser, model)
    option = next(one for one in options_of(model) if one.field == field)
    for sent in (488, "488", *([["DNA", 488]] if "|NAME,…" in option.metavar else [])):
        form = model(**{field: sent})
        shell = read_options(model, parser.parse_args(words_of(form)))
        number, names = getattr(form, field), ("488", ["488"], ["DNA", "488"])
        assert number in names
        assert getattr(shell, field) in (number, [number])


@pytest.mark.parametrize("model", [SegmentOptions, EvaluateOptions, TrainOptions, ClusterOptions])
def test_the_shell_s_defaults_are_the_form_s(model):
    parser = argparse.ArgumentParser()
    add_options(parser, model)
    assert read_options(model, parser.parse_args([])) == model()
    assert words_of(model()) == []


def test_every_field_of_a_segmentation_is_an_option_of_the_shell():
    assert {option.field for option in options_of(SegmentOptions)} == set(
        SegmentOptions.model_fields
    )


@pytest.mark.parametrize(
    ("options", "request_type", "made"),
    [
        (SegmentOptions(), SegmentRequest, {"input": "a", "output": "b"}),
        (EvaluateOptions(), EvaluateRequest, {"prediction": "a", "truth": "b"}),
    ],
)
def test_the_form_s_defaults_are_python_s(options, request_type, made):
    assert options.request(**made) == request_type(**made)
    names = {field.name for field in dataclasses.fields(request_type)}
    written = {"tile_memory_gib", "precision", "tta"}  # of the request, and of the predictor
    assert set(type(options).model_fields) - written <= names


def test_the_form_describes_files_as_the_shell_does():
    from flows.evaluate_volume import evaluate_volume
    from flows.segment_volume import segment_volume
    from flows.train_unet import train_unet

    for flow, model in (
        (segment_volume, SegmentFiles), (evaluate_volume, EvaluateFiles), (train_unet, TrainFiles)
    ):  # fmt: skip
        form = flow.parameters.properties
        for name, field in model.model_fields.items():
            assert field.description in " ".join(form[name]["description"].split())


HEAVY = ("torch", "prefect", "dask", "distributed", "zarr", "numpy", "scipy", "fsspec")


@pytest.mark.parametrize(
    "argv", [["--help"], ["segment"], *([name, "--help"] for name in COMMANDS)]
)
def test_help_and_argument_errors_load_nothing_heavy(argv):
    code = (
        "import sys\nfrom flows.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert end.code in (0, 2), end.code\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, *argv], capture_output=True, text=True, check=True
    )
    assert ran.stderr.splitlines()[-1] == "[]"


def parsers():
    """Return every parser of the command line by the words that lead to it."""

    def below(words, parser):
        yield words, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, sub in action.choices.items():
                    yield from below((*words, name), sub)

    return dict(below((), make_parser()))


PARSERS = parsers()


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_every_help_ends_with_examples_that_parse(words):
    _, examples = PARSERS[words].format_help().split("\nexamples:\n")
    lines = [line.removeprefix("  ") for line in examples.splitlines()]
    uses, commands = lines[::2], lines[1::2]
    assert len(uses) == len(commands) in (2, 3)
    for use, line in zip(uses, commands, strict=True):
        assert use.startswith("# ")
        line = re.sub(r'^eval "\$\((.*)\)"$', r"\1", line)
        overtile, *arguments = shlex.split(re.split(" > | [|] ", line)[0])
        assert overtile == "overtile"
        PARSERS[()].parse_args(arguments)
    assert any(" ".join(("overtile", *words)) in line for line in commands)


def test_every_example_is_of_a_command():
    assert set(EXAMPLES) == {" ".join(("overtile", *words)) for words in PARSERS}


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_every_help_describes_its_command(words):
    described = PARSERS[words].description
    assert described
    assert described.endswith(".")


def test_literals_are_the_choices_of_the_shell():
    (tta,) = [option for option in options_of(SegmentOptions) if option.field == "tta"]
    assert tta.choices == get_args(SegmentOptions.model_fields["tta"].annotation)
