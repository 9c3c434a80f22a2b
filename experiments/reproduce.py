"""Trains and evaluates every system of a table of the paper, and lays it beside the paper's.

    python experiments/reproduce.py --table=mnist --epochs=50 --out=DIR [--rows=vae,jmvae_kl_0.1]

TABLE is `mnist` (labels), `faces` (the systems of the paper's CelebA tables on synthetic faces, for
two CPU cores), `celeb_a` (for an accelerator, with `--manual_dir` where CelebA is) or `ablation`
(past the paper).

Each row is a run in DIR/rows/ROW, made by `train.py` and `evaluate.py --coherence` as a person
would; DIR/table.json and DIR/table.md are written after each. The same command goes on where it
was stopped: finished rows are not made again. A row that fails leaves the others alone, and the
exit status is then 1. `--smoke` shrinks networks and data to try the command.
"""

import dataclasses
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from absl import flags

from experiments import build, cli, markdown, tables, workdir
from jmvae_jax import data

_TABLE = flags.DEFINE_string("table", "mnist", f"Which table: one of {list(tables.TABLES)}.")
_EPOCHS = flags.DEFINE_integer("epochs", None, "Of rows without epochs of their own.", 1)
_ROWS = flags.DEFINE_list("rows", [], "Rows to make; all.")
_OUT = flags.DEFINE_string("out", None, "Folder of the table and its runs.", required=True)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "K, draws; the table's own.", 2)
_NUM_EXAMPLES = flags.DEFINE_integer("num_examples", None, "The first N test examples; all.", 2)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Judged images of each class.", 1)
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "Folder with the data set's files.")
_SMOKE = flags.DEFINE_bool("smoke", False, "Networks and data shrunk to seconds.")

EXPERIMENTS = pathlib.Path(__file__).resolve().parent
TABLE_FILE, MARKDOWN_FILE = "table.json", "table.md"


class StoppedError(Exception):
    """A signal asked for the end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Children:
    """Runs one command at a time, and passes SIGINT and SIGTERM on to it, once.

    A command inherits the table's lock: if we are killed, the folder is in use until it ends.
    """

    def __init__(self, lock: int) -> None:
        self.lock = lock
        self.signal: int | None = None
        self.running: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, frame: object) -> None:
        if self.signal is None and self.running is not None:
            self.running.send_signal(number)
        self.signal = number

    def run(self, words: Sequence[str]) -> str | None:
        """Runs to the end with its output on ours; None, or what is wrong.

        Raises:
          StoppedError: a signal came while it ran, or before.
        """
        if self.signal is not None:
            raise StoppedError(self.signal)
        print(f"\n$ {shlex.join(words)}", flush=True)
        # In a session of its own, so that the terminal's ^C reaches it through us alone.
        self.running = subprocess.Popen(
            words, stderr=subprocess.PIPE, start_new_session=True, pass_fds=[self.lock]
        )
        if self.signal is not None:  # it came between the two lines above
            self.running.send_signal(self.signal)
        tail = self._show(self.running)
        status = self.running.wait()
        self.running = None
        if self.signal is not None:
            raise StoppedError(self.signal)
        if status == 0:
            return None
        error = re.search(r"error: (.*)", tail, re.DOTALL)
        words_of_it = " ".join((error[1] if error else tail[-300:]).split())
        return f"exit status {status}: {words_of_it}"

    @staticmethod
    def _show(process: subprocess.Popen[bytes]) -> str:
        """Copies what it says to our stderr; the last of it."""
        assert process.stderr is not None
        tail = b""
        while part := process.stderr.read1(4096):  # type: ignore[attr-defined]
            sys.stderr.buffer.write(part)
            sys.stderr.buffer.flush()
            tail = (tail + part)[-4000:]
        return tail.decode(errors="replace")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for: the head of the table, which a folder keeps to."""

    table: str
    epochs: int
    num_samples: int
    num_examples: int
    num_images: int
    smoke: bool

    @classmethod
    def from_flags(cls) -> "Request":
        table = build.choose("table", _TABLE.value, tables.TABLES)
        epochs = _EPOCHS.value or table.epochs
        dataset = table.config(table.reference, epochs, _SMOKE.value).data.dataset
        available = data.num_examples(dataset, "test", manual_dir=_MANUAL_DIR.value)
        wanted = available if _NUM_EXAMPLES.value is None else _NUM_EXAMPLES.value
        if wanted > available:
            raise ValueError(f"num_examples={wanted}: the test split has {available}")
        return cls(
            table=_TABLE.value,
            epochs=epochs,
            num_samples=_NUM_SAMPLES.value or table.num_samples,
            num_examples=wanted,
            num_images=_NUM_IMAGES.value,
            smoke=_SMOKE.value,
        )

    def command(self, rows: Iterable[str]) -> str:
        """The command that makes these rows of the table."""
        words = [f"--table={self.table}", f"--epochs={self.epochs}"]
        words += ["--smoke"] if self.smoke else []
        if set(rows) < set(tables.TABLES[self.table].rows):
            words.append(f"--rows={','.join(rows)}")
        for name in ("num_samples", "num_examples", "num_images"):
            if flags.FLAGS[name].value != flags.FLAGS[name].default:
                words.append(f"--{name}={getattr(self, name)}")
        return " ".join(["python experiments/reproduce.py", *words, "--out=DIR"])

    def failed_before(self, folder: pathlib.Path) -> dict[str, str]:
        """The rows that the folder's table calls failed.

        Raises:
          ValueError: that table was asked for otherwise.
        """
        path = folder / TABLE_FILE
        if not path.exists():
            return {}
        kept = json.loads(path.read_text())
        changed = [
            f"{name}: {kept.get(name)!r} -> {value!r}"
            for name, value in dataclasses.asdict(self).items()
            if kept.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"out={os.fspath(folder)!r} holds another table. It differs in "
                f"{'; '.join(changed)}. Give another folder, or the same flags to go on"
            )
        return dict(kept["failed"])


def finished(
    name: str, folder: pathlib.Path, request: Request
) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """A finished row of the table and its examples' values; None where there is still to do.

    Raises:
      ValueError: what is there cannot be read.
    """
    table, run = tables.TABLES[request.table], folder / "rows" / name
    if not (run / workdir.RESULTS_FILE).exists() or not (run / workdir.VALUES_FILE).exists():
        return None
    try:
        config = table.config(name, request.epochs, request.smoke)
        if workdir.differences(workdir.read_config(run), config):
            return None  # train.py will refuse the folder and say why
        results = json.loads((run / workdir.RESULTS_FILE).read_text())
        wanted = {
            "step": table.num_steps(name, request.epochs, request.smoke),
            "split": "test",
            "num_samples": request.num_samples,
            "num_examples": request.num_examples,
            "num_images": request.num_images,
            "num_proposals": table.num_proposals if table.num_proposals > 1 else None,
        }
        if any(results.get(key) != value for key, value in wanted.items()):
            return None
        with np.load(run / workdir.VALUES_FILE) as arrays:
            return tables.entry(table, name, run, results), dict(arrays)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{run} holds results that cannot be read ({error}): remove {workdir.RESULTS_FILE} "
            "there, and the row is evaluated again"
        ) from error


def _training(name: str, folder: pathlib.Path, request: Request) -> tuple[str, list[str]]:
    """The script that trains a row, and its flags."""
    table, run = tables.TABLES[request.table], folder / "rows" / name
    row = table.rows[name]
    if row.source:
        families = ",".join(f"{modality}={family}" for modality, family in row.posteriors.items())
        return "align.py", [
            f"--workdir={folder / 'rows' / row.source}",
            f"--out={run}",
            f"--posteriors={families}",
            f"--epochs={request.epochs}",
        ]
    variant = row.variant + (",smoke" if request.smoke else "")
    overrides = {"train.epochs": request.epochs, **row.overrides}
    return "train.py", [
        f"--config={table.configuration_file}:{variant}",
        *(f"--config.{key}={value}" for key, value in overrides.items()),
        *([] if _MANUAL_DIR.value is None else [f"--config.data.manual_dir={_MANUAL_DIR.value}"]),
        f"--workdir={run}",
    ]


def make_row(name: str, folder: pathlib.Path, request: Request, children: Children) -> str | None:
    """Trains and evaluates a row; None, or what is wrong."""
    table, run = tables.TABLES[request.table], folder / "rows" / name
    source, proposals = table.rows[name].source, table.num_proposals
    if source and finished(source, folder, request) is None:
        return f"it is made from the row {source}, which is not finished"
    evaluate = [
        f"--workdir={run}",
        f"--num_samples={request.num_samples}",
        f"--num_examples={request.num_examples}",
        f"--num_images={request.num_images}",
        "--coherence",
        *([f"--num_proposals={proposals}"] if proposals > 1 else []),
    ]
    for script, flags_of_it in (_training(name, folder, request), ("evaluate.py", evaluate)):
        wrong = children.run([sys.executable, str(EXPERIMENTS / script), *flags_of_it])
        if wrong is not None:
            return f"{script}: {wrong}"
    return None


def write_table(folder: pathlib.Path, request: Request, failed: dict[str, str]) -> None:
    """Writes what is finished, now or earlier, in the order of the paper, and what failed."""
    entries, values, rows = {}, {}, tables.TABLES[request.table].rows
    for name in rows:
        try:
            found = finished(name, folder, request)
        except ValueError as error:
            failed[name] = str(error)
            continue
        if found is not None:
            entries[name], values[name] = found
            failed.pop(name, None)
    table = {
        **dataclasses.asdict(request),
        "command": request.command([name for name in rows if name in entries or name in failed]),
        "rows": entries,
        "differences": tables.differences(tables.TABLES[request.table], values),
        "failed": failed,
    }
    workdir.write_json(folder / TABLE_FILE, table)
    workdir.write_text(folder / MARKDOWN_FILE, markdown.markdown(table))


def make_table(
    wanted: Sequence[str], folder: pathlib.Path, request: Request, children: Children
) -> dict[str, str]:
    """Makes the rows that are not finished; row -> what is wrong with it."""
    failed = request.failed_before(folder)
    (folder / "rows").mkdir(exist_ok=True)
    for name in wanted:
        try:
            if finished(name, folder, request) is not None:
                print(f"{name} is finished", flush=True)
                continue
            wrong = make_row(name, folder, request, children)
        except ValueError as error:
            wrong = str(error)
        failed.pop(name, None)
        if wrong is not None:
            failed[name] = wrong
            print(f"error: row {name} failed: {wrong}", file=sys.stderr, flush=True)
        write_table(folder, request, failed)
    write_table(folder, request, failed)
    return failed


def main() -> int:
    request, folder = Request.from_flags(), pathlib.Path(_OUT.value)
    table = tables.TABLES[request.table]
    for name in _ROWS.value:
        build.choose("rows", name, table.rows)
    wanted = table.in_order(_ROWS.value or table.rows)
    with workdir.locked(folder, "out") as lock:
        workdir.check_writable(folder, "out")
        try:
            failed = make_table(wanted, folder, request, Children(lock))
        except StoppedError as stopped:
            print("stopped; the same command goes on from there")
            return 128 + stopped.number
    print(f"\n{(folder / MARKDOWN_FILE).read_text()}\nwrote {folder / TABLE_FILE}")
    return 1 if set(failed) & set(wanted) else 0


if __name__ == "__main__":
    cli.launch(main)
