"""Rounds of corrections: segment, paint where the classes are wrong, train again, score.

    python -m benchmarks.corrections_loop --data TRAIN.zarr --work WORK [--rounds 3]

TRAIN.zarr: arrays ``raw`` (uint8) and ``labels`` (ids of objects), z y x, of one shape, such as the
sample of FIB-25. A network learns boundaries from a few labelled slices. Each round segments all
slices, and paints strokes at the largest errors of some others, as a person would: a disc with the
true classes, up to a number of voxels. It then trains from its weights, with the first labels and
all corrections. The slices that are scored are in neither. ``--control`` also trains the same steps
without corrections. Every step is a command of the shell, printed before it runs; what exists in
WORK is not made again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.measuring import at_least_one, keep

CONFIG = """class_names = ["inside", "boundary"]

[network]
dims = 3
base_channels = {base}
levels = {levels}

[training]
patch = [{depth}, {patch}, {patch}]
class_balance = true

[training.augment]
rotation = "quarter"
elastic_sigma = 4.0
"""
OBJECTS = ("--method", "watershed", "--depth", "0.1", "--agglomerate", "mean",
           "--merge-threshold", "0.5")  # fmt: skip
"""Chosen before, on other data: nothing is chosen on the slices that are scored."""
Labels = NDArray[Any]
Figures = dict[str, float]


def boundary(ids: Labels) -> NDArray[np.bool_]:
    """Return where a face neighbour has another id, and where the id is 0."""
    found: NDArray[np.bool_] = ids == 0
    for axis in range(ids.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        step = ids[before] != ids[after]
        found[before] |= step
        found[after] |= step
    return found


def strokes(
    truth: Labels, found: Labels, known: NDArray[np.bool_], *, voxels: int, radius: int
) -> NDArray[np.bool_]:
    """Return where a person paints: discs in slices, at the largest errors first.

    truth, found: classes (z, y, x). known: voxels painted before, where no disc is centred. At most
    ``voxels`` are painted.
    """
    painted = np.zeros(truth.shape, np.bool_)
    for z, y, x in _errors(truth, found):
        if known[z, y, x] or painted[z, y, x]:
            continue
        rows, columns = np.ogrid[: truth.shape[1], : truth.shape[2]]
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        if painted.sum() + disc.sum() > voxels:
            break
        painted[z] |= disc
    return painted


def _errors(truth: Labels, found: Labels) -> Iterator[tuple[int, int, int]]:
    """Yield the middle voxels of the errors, connected in their slice, the largest first."""
    middles = []
    for z in range(len(truth)):
        numbered, _ = ndimage.label(truth[z] != found[z])
        for number, place in enumerate(ndimage.find_objects(numbered), start=1):
            inside = np.argwhere(numbered[place] == number)
            nearest = inside[np.argmin(np.square(inside - inside.mean(axis=0)).sum(axis=1))]
            y, x = (int(n) + part.start for n, part in zip(nearest, place, strict=True))
            middles.append((-len(inside), z, y, x))
    for _, z, y, x in sorted(middles):
        yield z, y, x


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The commands of the loop, and where their files are."""

    data: Path
    work: Path
    options: argparse.Namespace

    def prepare(self) -> None:
        """Write the first labels, the true classes, and the config."""
        options, (a, b) = self.options, self.options.labelled
        self.work.mkdir(parents=True, exist_ok=True)
        step = 2 ** (options.levels - 1)
        depth = min(options.patch, (b - a) // step * step)  # no patch is larger than a volume
        (self.work / "loop.toml").write_text(
            CONFIG.format(
                base=options.base, levels=options.levels, patch=options.patch, depth=depth
            )
        )
        raw, ids = self._read("raw"), self._read("labels")
        for name, array in (
            ("first-raw", raw[a:b]), ("first-labels", ids[a:b]), ("raw", raw),
            ("truth", boundary(ids).astype(np.uint8)), ("ids", ids),
        ):  # fmt: skip
            if not (self.work / f"{name}.zarr").exists():
                zarr.create_array(
                    self.work / f"{name}.zarr", data=array, dimension_names=("z", "y", "x"),
                    chunks=tuple(min(64, n) for n in array.shape),
                )  # fmt: skip

    def _read(self, name: str) -> Labels:
        array: Any = zarr.open_array(self.data / name, mode="r")
        return np.asarray(array[...])

    def run(self, *words: object, made: str) -> None:
        """Run a command of the shell unless what it makes exists."""
        if (self.work / made).exists():
            return
        text = [str(word) for word in words]
        print("overtile", shlex.join(text), flush=True)
        subprocess.run(
            [sys.executable, "-m", "flows.cli", *text], cwd=self.work, check=True,
            stdout=subprocess.DEVNULL if "--json" in text else None,
        )  # fmt: skip

    def train(self, out: str, *, start: str | None, corrections: str | None, steps: int) -> None:
        """Train with the first labels, and with corrections where there are some."""
        pairs = ["--volume", "first-raw.zarr", "--labels", "first-labels.zarr"]
        pairs += ["--volume", "raw.zarr", "--labels", corrections] if corrections else []
        weights = ["--from", start] if start else []
        self.run(
            "train", *weights, *pairs, "--rule", "boundary", "--config", "loop.toml", "--steps",
            steps, "--out", out, made=out,
        )  # fmt: skip

    def segment(self, out: str, *, weights: str, since: str | None) -> None:
        """Segment all slices."""
        earlier = ["--since", since] if since else []
        self.run(
            "segment", "raw.zarr", out, "--weights", weights, "--outputs", "classes,scores",
            *earlier, made=f"{out}/run/report.html",
        )  # fmt: skip

    def paint(self, out: str, corrections: str) -> int:
        """Paint at the largest errors of an output; return how many voxels are painted in all."""
        done = self.work / f"{out.removesuffix('.zarr')}-painted.txt"
        if done.exists():
            return int(done.read_text())
        self.run("corrections", out, "--out", corrections, made=corrections)
        a, b = self.options.painted
        array: Any = zarr.open_array(self.work / corrections / "0", mode="r+")
        stored = np.asarray(array[a:b])
        truth, found = (np.asarray(self._stored(name)[a:b]) for name in ("truth.zarr", out))
        new = strokes(
            truth, found, stored > 0, voxels=self.options.voxels, radius=self.options.radius
        )
        array[a:b] = np.where(new, truth + 1, stored).astype(np.uint8)
        done.write_text(str(np.count_nonzero(array[...])))
        return int(done.read_text())

    def _stored(self, name: str) -> Any:
        inside = "" if name == "truth.zarr" else "labels/classes/0"
        return zarr.open_array(self.work / name / inside, mode="r")

    def score(self, out: str) -> Figures:
        """Return the figures of an output on the slices that nothing was learnt from."""
        name, (a, b) = out.removesuffix(".zarr"), self.options.scored
        self.run("evaluate", out, "truth.zarr", "--slices", f"{a}:{b}", "--json",
                 f"{name}.json", made=f"{name}.json")  # fmt: skip
        classes = json.loads((self.work / f"{name}.json").read_text())["classes"]
        of_boundary = next(one for one in classes["per_class"] if one["class"] == 1)
        figures = {"pixel_error": classes["pixel_error"]}
        figures |= {key: of_boundary[key] for key in ("precision", "recall", "dice")}
        return figures | (self._objects(out, name) if self.options.objects else {})

    def _objects(self, out: str, name: str) -> Figures:
        found, (a, b) = f"{name}-objects.zarr", self.options.scored
        self.run("objects", out, found, "--class", "boundary", *OBJECTS,
                 made=f"{found}/tables/objects.parquet")  # fmt: skip
        self.run("evaluate", f"{found}/labels/objects", "ids.zarr", "--objects", "ids", "--slices",
                 f"{a}:{b}", "--json", f"{name}-ids.json", made=f"{name}-ids.json")  # fmt: skip
        objects = json.loads((self.work / f"{name}-ids.json").read_text())["objects"]
        return {key: objects[key] for key in ("adapted_rand_error", "voi")}

    def rounds(self) -> Iterator[dict[str, Any]]:
        """Yield the figures before the first round, and after each."""
        options, painted = self.options, 0
        self.train("w0.safetensors", start=None, corrections=None, steps=options.first_steps)
        for number in range(options.rounds + 1):
            out, weights = f"out{number}.zarr", f"w{number}.safetensors"
            self.segment(out, weights=weights, since=f"out{number - 1}.zarr" if number else None)
            row: dict[str, Any] = {"round": number, "painted": painted, **self.score(out)}
            if options.control and number:
                row["control"] = self._control(number)
            yield row
            if number < options.rounds:
                painted = self.paint(out, "corrections.zarr")
                self.train(
                    f"w{number + 1}.safetensors", start=weights, corrections="corrections.zarr",
                    steps=options.steps,
                )  # fmt: skip

    def _control(self, number: int) -> Figures:
        before = f"control{number - 1}.safetensors" if number > 1 else "w0.safetensors"
        weights, out = f"control{number}.safetensors", f"control{number}.zarr"
        self.train(weights, start=before, corrections=None, steps=self.options.steps)
        self.segment(out, weights=weights, since=None)
        return self.score(out)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as a table of Markdown."""
    names = [name for name in rows[0] if name not in ("round", "painted")]
    has_control = any("control" in row for row in rows)
    heads = ["round", "voxels painted", *(name.replace("_", " ") for name in names)]
    heads += [f"without corrections: {name.replace('_', ' ')}" for name in names if has_control]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = [str(row["round"]), f"{row['painted']:,}", *(f"{row[name]:.4f}" for name in names)]
        control = row.get("control", {})
        cells += [f"{control[name]:.4f}" if control else "" for name in names if has_control]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def span(text: str) -> tuple[int, int]:
    """Return the slices of ``A:B``, for argparse."""
    try:
        first, last = map(int, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected slices as A:B") from None
    return first, last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Zarr group: raw, labels")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--voxels", type=at_least_one, default=4000, help="painted per round")
    parser.add_argument("--radius", type=at_least_one, default=6, help="of a disc, in voxels")
    parser.add_argument("--labelled", type=span, default=(0, 24), help="slices labelled at first")
    parser.add_argument("--painted", type=span, default=(24, 136), help="slices to paint in")
    parser.add_argument("--scored", type=span, default=(144, 184), help="slices to score")
    parser.add_argument("--first-steps", type=at_least_one, default=400)
    parser.add_argument("--steps", type=at_least_one, default=200, help="of each round")
    parser.add_argument("--base", type=at_least_one, default=8, help="channels of the network")
    parser.add_argument("--levels", type=at_least_one, default=3)
    parser.add_argument("--patch", type=at_least_one, default=44)
    parser.add_argument("--objects", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--control", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    loop = Loop(data=options.data.resolve(), work=options.work.resolve(), options=options)
    loop.prepare()
    rows = []
    for row in loop.rounds():
        rows.append(row)
        print(json.dumps(row), flush=True)
    print(table(rows))
    settings = {name: value for name, value in vars(options).items()
                if name not in ("data", "work")}  # fmt: skip
    print(keep("corrections_loop", {"settings": settings, "rounds": rows}))


if __name__ == "__main__":
    main()
