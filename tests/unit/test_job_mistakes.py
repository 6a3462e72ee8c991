"""Mistakes in a job file: what each is told as."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.core.errors import Exit
from launcher.job import JobFileError, Problem, load_job
from launcher.jobfile.document import Mapping, Problems, Scalar
from launcher.jobfile.job_schema import JOB
from providers.registry import USER_PROVIDERS

PROVIDERS = ", ".join(USER_PROVIDERS)


def write(tmp_path: Path, content: str) -> Path:
    """A job file with that content, in a folder with a name fit for a job."""
    folder = tmp_path / "job-dir"
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "train.py").touch()
    path = folder / "gpulaunch.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def problems_of(tmp_path: Path, content: str) -> list[str]:
    """The problems of that content, as `line: key: message`."""
    path = write(tmp_path, content)
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


NAME_RULE = "is not a name: 1 to 40 lower-case letters, digits and '-', a letter first and no '-' last"
HIDE_IT = "what is written here can be read by others: list the variable's name under `secrets:` instead"
STORE_RULE = "is not s3://bucket/prefix, gs://…, az://…, a folder, or none"
INSIDE_RULE = "is not a path inside the working folder: relative, or below /workspace, and without '..'"
DURATION_RULE = "is not a duration, such as 8h, 1h30m, 90m, 45s or 2d"
IMAGE_RULE = "is not a container image, such as pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime, or none"
KEYS = ("name, command, image, workdir, env, secrets, resources, budget, max_duration, egress_gb, early_stop, stall, "
        "metrics, checkpoints, store, resume, grace, local")  # fmt: skip
ONE_GROUP = "it must have one, around the number. (?:…) does not count as a group"
FORMATS = "auto, hf, lightning, keras, nanogpt, llmc, jsonl, tensorboard, regex"
ENV_NAME_RULE = "not a name for a variable; use letters, digits and '_', and no digit at the start"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("budgett: 5", f"budgett: unknown key; did you mean 'budget'? known here: {KEYS}"),
        ("Budget: 5", f"Budget: unknown key; did you mean 'budget'? known here: {KEYS}"),
        ("zzz: 5", f"zzz: unknown key; known here: {KEYS}"),
        ("gpu: T4", f"gpu: unknown key; did you mean 'resources.gpu'? known here: {KEYS}"),
        ('"a\\nb": 5', f"'a\\nb': unknown key; known here: {KEYS}"),
        ("resources: {disk: 5}",
         "resources.disk: unknown key; did you mean 'disk_gb'? known here: gpu, disk_gb, spot, providers, regions"),
        ("stall: {no_ouput: 5m}",
         "stall.no_ouput: unknown key; did you mean 'no_output'? known here: no_output, no_progress"),
        ("name: My Model", f"name: 'My Model' {NAME_RULE}; try 'my-model'"),
        ("name: 2fast", f"name: '2fast' {NAME_RULE}; try 'job-2fast'"),
        ("name: a-", f"name: 'a-' {NAME_RULE}; try 'a'"),
        ("name: ''", f"name: '' {NAME_RULE}; try 'job'"),
        ("name: \"it's\"", f'name: "it\'s" {NAME_RULE}; try \'it-s\''),
        ('name: "a\\nb"', f"name: 'a\\nb' {NAME_RULE}; try 'a-b'"),
        ("name: $(reboot)", f"name: '$(reboot)' {NAME_RULE}; try 'reboot'"),
        ("name: " + "a" * 41, f"name: '{'a' * 41}' {NAME_RULE}; try '{'a' * 40}'"),
        ("name: " + "a" * 300, f"name: '{'a' * 57}…' {NAME_RULE}; try '{'a' * 40}'"),
        ("name: [a]",
         "name: a list is not a name: 1 to 40 lower-case letters, digits and '-', a letter first and no '-' last"),
        ("image: Ubuntu Linux", f"image: 'Ubuntu Linux' {IMAGE_RULE}"),
        ("image: --privileged", f"image: '--privileged' {IMAGE_RULE}"),
        ("image: 'a:b:c'", f"image: 'a:b:c' {IMAGE_RULE}"),
        ("image: ''", f"image: '' {IMAGE_RULE}"),
        ("workdir: nowhere", "workdir: 'nowhere' is not a folder that exists"),
        ("workdir: train.py", "workdir: 'train.py' is not a folder that exists"),
        ('workdir: "a\\0b"', "workdir: 'a\\x00b' is not the path of a folder"),
        ("env: [A]", "env: a list is not a mapping of names to values, such as {SEED: 1}"),
        ("env: {1A: x}", f"env.1A: {ENV_NAME_RULE}"),
        ("env: {'A B': x}", f"env.A B: {ENV_NAME_RULE}"),
        ("env: {A: [1]}", "env.A: a list is not one value"),
        ('env: {A: "x\\0y"}', "env.A: the value holds a NUL character, which no environment can carry"),
        ("env: {GPULAUNCH_JOB: x}",
         "env.GPULAUNCH_JOB: names that start with GPULAUNCH_ are gpulaunch's own; choose another"),
        ("env: {HF_TOKEN: x}", f"env.HF_TOKEN: looks like a secret; {HIDE_IT}"),
        ("env: {wandb_api_key: x}", f"env.wandb_api_key: looks like a secret; {HIDE_IT}"),
        ("env: {DB_PASSWORD: x}", f"env.DB_PASSWORD: looks like a secret; {HIDE_IT}"),
        ("env: {A: hf_abcdefghijklmnopqrst}", f"env.A: looks like a secret; {HIDE_IT}"),
        ("env: {A: sk-proj-abcdefghijklmnop}", f"env.A: looks like a secret; {HIDE_IT}"),
        ("env: {A: AKIAABCDEFGHIJKLMNOP}", f"env.A: looks like a secret; {HIDE_IT}"),
        ("env: {A: ghp_abcdefghijklmnopqrstuvwxyz}", f"env.A: looks like a secret; {HIDE_IT}"),
        ("secrets: HF_TOKEN", "secrets: 'HF_TOKEN' is not a list, such as [HF_TOKEN]"),
        ("secrets: [a b]", "secrets: 'a b' is not the name of a variable, such as HF_TOKEN"),
        ("secrets: [A, ]\nenv: {A: x}", "secrets: A is in env too; keep one of the two"),
        ("secrets: [A, ~]", "secrets: an item is empty; remove it, or put it in quotes if it is meant as text"),
        ("resources: T4", "resources: 'T4' is not a mapping with keys of: gpu, disk_gb, spot, providers, regions"),
        ("resources: {gpu: 'T4; ls'}", "resources.gpu: 'T4; ls' is not the name of a GPU, such as T4, or none"),
        ("resources: {disk_gb: many}", "resources.disk_gb: 'many' is not a whole number from 1 to 65536"),
        ("resources: {disk_gb: 0}", "resources.disk_gb: '0' is not a whole number from 1 to 65536"),
        ("resources: {disk_gb: 1.5}", "resources.disk_gb: '1.5' is not a whole number from 1 to 65536"),
        (f"resources: {{disk_gb: {'9' * 5000}}}",
         f"resources.disk_gb: '{'9' * 57}…' is not a whole number from 1 to 65536"),
        ("resources: {spot: 1}", "resources.spot: '1' is not true or false"),
        ("resources: {providers: [loca]}",
         f"resources.providers: 'loca' is not one of: {PROVIDERS}; did you mean 'local'?"),
        ("resources: {providers: [simulated]}", f"resources.providers: 'simulated' is not one of: {PROVIDERS}"),
        ("resources: {regions: [US East]}",
         "resources.regions: 'US East' is not the name of a region, such as us-east-1"),
        ("budget: -5", "budget: '-5' must be above zero"),
        ("budget: 0", "budget: '0' must be above zero"),
        ("budget: nan", "budget: 'nan' is not a finite amount in dollars"),
        ("budget: .inf", "budget: '.inf' is not an amount in dollars, such as 5 or 4.50"),
        ("budget: inf", "budget: 'inf' is not a finite amount in dollars"),
        ("budget: 1e400", "budget: '1e400' is more than a million dollars"),
        ("budget: 1e-400", "budget: '1e-400' has more than six decimals"),
        ("budget: five", "budget: 'five' is not an amount in dollars, such as 5 or 4.50"),
        ("budget: {usd: 5}", "budget: a mapping is not an amount in dollars, such as 5 or 4.50"),
        ("max_duration: 90", "max_duration: '90' has no unit; write 90s, 90m or 90h"),
        ("max_duration: 0", "max_duration: '0' has no unit; write 0s, 0m or 0h"),
        ("max_duration: 0s", "max_duration: '0s' must be above zero"),
        ("max_duration: 1:30", f"max_duration: '1:30' {DURATION_RULE}"),
        ("max_duration: -5m", f"max_duration: '-5m' {DURATION_RULE}"),
        ("max_duration: inf", f"max_duration: 'inf' {DURATION_RULE}"),
        ("max_duration: 30m1h", f"max_duration: '30m1h' {DURATION_RULE}"),
        ("max_duration: ''", f"max_duration: '' {DURATION_RULE}"),
        ("max_duration: 400d", "max_duration: '400d' is longer than a year"),
        ("max_duration: " + "9" * 400 + "h", f"max_duration: '{'9' * 57}…' is longer than a year"),
        ("grace: 10", "grace: '10' has no unit; write 10s, 10m or 10h"),
        ("egress_gb: -1", "egress_gb: '-1' must not be below zero"),
        ("egress_gb: nan", "egress_gb: 'nan' is not a number of GB, such as 1"),
        ("egress_gb: 1e999999999999999999999",
         "egress_gb: '1e999999999999999999999' has an exponent beyond any amount"),
        ("egress_gb: 1e-99", "egress_gb: '1e-99' has more than nine decimals"),
        ("egress_gb: 1e7", "egress_gb: '1e7' must be at most 1000000"),
        ("early_stop: {}",
         "early_stop.monitor: missing; it is required (The metric to watch, as the training prints it)"),
        ("early_stop: {monitor: ''}", "early_stop.monitor: '' is empty; write the name of a metric, such as val_loss"),
        ('early_stop: {monitor: "a\\nb"}', "early_stop.monitor: 'a\\nb' holds a line break or a control character"),
        ("early_stop: {monitor: " + "a" * 101 + "}",
         f"early_stop.monitor: '{'a' * 57}…' is longer than 100 characters"),
        ("early_stop: {monitor: a, mode: mni}", "early_stop.mode: 'mni' is not one of: min, max; did you mean 'min'?"),
        ("early_stop: {monitor: a, patience: -1}", "early_stop.patience: '-1' is not a whole number from 0 to 1000000"),
        ("early_stop: {monitor: a, min_delta: -0.1}", "early_stop.min_delta: '-0.1' is not a number of at least 0"),
        ("early_stop: {monitor: a, min_delta: nan}", "early_stop.min_delta: 'nan' is not a number of at least 0"),
        ("early_stop: {monitor: a, baseline: inf}",
         "early_stop.baseline: 'inf' is not a number, such as 0.001 or 1e-4"),
        ("early_stop: {monitor: a, baseline: 1e400}", "early_stop.baseline: '1e400' is too large a number"),
        ("early_stop: {monitor: a, patience_usd: 0}", "early_stop.patience_usd: '0' must be above zero"),
        ("early_stop: {monitor: a, stopping_threshold: 5, divergence_threshold: 3}",
         "early_stop.divergence_threshold: 3 together with stopping_threshold 5 stops the run at every value"),
        ("early_stop: {monitor: a, mode: max, stopping_threshold: 3, divergence_threshold: 5}",
         "early_stop.divergence_threshold: 5 together with stopping_threshold 3 stops the run at every value"),
        ("metrics: {format: json}", f"metrics.format: 'json' is not one of: {FORMATS}; did you mean 'jsonl'?"),
        ("metrics: {format: regex}", "metrics.format: 'regex' needs the expressions: add the key regex"),
        ("metrics: {files: [/etc/passwd]}", f"metrics.files: '/etc/passwd' {INSIDE_RULE}"),
        ("metrics: {regex: [{name: a, regex: '('}]}",
         "metrics.regex.regex: '(' is not a regular expression: missing ), unterminated subpattern at position 0"),
        ("metrics: {regex: [{name: a, regex: 'a'}]}", f"metrics.regex.regex: 'a' has 0 groups; {ONE_GROUP}"),
        ("metrics: {regex: [{name: a, regex: '(a)(b)'}]}", f"metrics.regex.regex: '(a)(b)' has 2 groups; {ONE_GROUP}"),
        ("metrics: {regex: [{name: a}]}",
         "metrics.regex.regex: missing; it is required (A Python regular expression; its one group holds the number)"),
        ("metrics: {regex: [a]}", "metrics.regex: 'a' is not a mapping with keys of: name, regex"),
        ("checkpoints: out", "checkpoints: 'out' is not a mapping with keys of: path, every, keep"),
        ("checkpoints: {every: 5m}",
         "checkpoints.path: missing; it is required (The folder the training saves to: relative, or below /workspace)"),
        ("checkpoints: {path: /tmp/x}", f"checkpoints.path: '/tmp/x' {INSIDE_RULE}"),
        ("checkpoints: {path: ../x}", f"checkpoints.path: '../x' {INSIDE_RULE}"),
        ("checkpoints: {path: /workspace/../x}", f"checkpoints.path: '/workspace/../x' {INSIDE_RULE}"),
        ("checkpoints: {path: .}", "checkpoints.path: '.' is the whole working folder; name a folder or a file in it"),
        ("checkpoints: {path: x, keep: 0}", "checkpoints.keep: '0' is not a whole number from 1 to 1000"),
        ("store: http://x/y", f"store: 'http://x/y' {STORE_RULE}"),
        ("store: s3:/bucket", f"store: 's3:/bucket' {STORE_RULE}"),
        ("store: s3://", f"store: 's3://' {STORE_RULE}"),
        ("store: ''", f"store: '' {STORE_RULE}"),
        ("store: train.py", "store: 'train.py' is a file; a folder is needed"),
        ("resume: maybe", "resume: 'maybe' is not true or false"),
        ("local: {watts: 0}", "local.watts: '0' must be above zero"),
        ("local: {price_per_hour: -1}", "local.price_per_hour: '-1' must be above zero"),
        ("local: {usd_per_kwh: cheap}", "local.usd_per_kwh: 'cheap' is not dollars per kilowatt-hour, such as 0.15"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_problem(tmp_path: Path, line: str, expected: str) -> None:
    """Each mistake is told once, with its line, its key, what was found and what is allowed."""
    problems = problems_of(tmp_path, f"command: x\n{line}\n")
    assert [f"2: {expected}"] == problems


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{}",
         "1: command: missing; it is required (What to run: a list of words, or one text to be split into words)"),
        ("comand: x", f"1: comand: unknown key; did you mean 'command'? known here: {KEYS}"),
        ("command: []", "1: command: names no program; write one, such as [python, train.py]"),
        ("command: ''", "1: command: names no program; write one, such as [python, train.py]"),
        ("command: ['', x]", "1: command: names no program; write one, such as [python, train.py]"),
        ("command: {a: b}", "1: command: a mapping is not a command, such as [python, train.py]"),
        ("command: [a, [b]]", "1: command: a list is not one word of a command"),
        ("command: [a, ]\nname: x y", f"2: name: 'x y' {NAME_RULE}; try 'x-y'"),
        ("command: [a, null]", "1: command: an item is empty; remove it, or put it in quotes if it is meant as text"),
        ("command: a 'b", "1: command: \"a 'b\" has a quote that is not closed"),
        ("command: cd x && python y", "1: command: '&&' needs a shell, and none runs it; write [bash, -c, '…']"),
        ('command: [a, "b\\0"]', "1: command: holds a NUL character, which no program can be given"),
        ("command: [a, --token, hf_abcdefghijklmnopqrst]", f"1: command: holds what looks like a secret; {HIDE_IT}"),
        ("", "1: the file is empty; delete it and run `gpulaunch init` to write one to start from"),
        ("# nothing", "1: the file is empty; delete it and run `gpulaunch init` to write one to start from"),
        ("just text", "1: the top level must be a mapping, such as `name: my-job`"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_told(tmp_path: Path, line: str, expected: str) -> None:
    """The one key that every job needs, and files that are no job at all."""
    assert [expected] == problems_of(tmp_path, line)


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    """One run shows every problem, in the order of the lines, duplicates and syntax included."""
    content = "budget: -1\ncommand: x\nbudget: 5\ngrace: 10\nresources:\n  gpus: T4\n  spot: perhaps\n"
    expected = [
        "1: budget: '-1' must be above zero",
        "3: budget: given twice; it is in line 1 already",
        "4: grace: '10' has no unit; write 10s, 10m or 10h",
        "6: resources.gpus: unknown key; did you mean 'gpu'? known here: gpu, disk_gb, spot, providers, regions",
        "7: resources.spot: 'perhaps' is not true or false",
    ]
    assert expected == problems_of(tmp_path, content)


def test_a_job_file_error_carries_its_problems(tmp_path: Path) -> None:
    """The error is a usage error that lists path, line, key and message of each problem, and says what to do."""
    path = write(tmp_path, "command: x\nbudget: 0\n")
    with pytest.raises(JobFileError) as caught:
        load_job(path)
    assert [Problem(str(path), 2, "budget", "'0' must be above zero")] == caught.value.problems
    assert caught.value.what == "The job file has 1 problem:"
    assert caught.value.fix == "Change these lines. `gpulaunch init --schema` prints every key and what it allows."
    assert caught.value.exit_code == Exit.USAGE


def test_a_secret_is_never_echoed(tmp_path: Path) -> None:
    """The error about a secret does not print it."""
    assert "hunter2" not in problems_of(tmp_path, "command: x\nenv: {DB_PASSWORD: hunter2}\n")[0]


def test_aliases_that_multiply_end_in_an_error(tmp_path: Path) -> None:
    """A small file cannot blow up into many values."""
    rows = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    problems = problems_of(tmp_path, f"a: &a [x]\n{rows}command: *h\n")
    assert problems == ["1: refused: with its aliases, more than 10,000 values"]


@pytest.mark.parametrize("image", ["a" * 500 + "!", "a-" * 250, "a/" * 250 + "!", "a." * 250, "a" * 100_000])
def test_a_hostile_image_is_refused_at_once(tmp_path: Path, image: str) -> None:
    """No text makes the check of a reference try again and again."""
    assert len(problems_of(tmp_path, f"command: x\nimage: {image}\n")) == 1


def test_an_odd_expression_is_taken_without_a_warning(tmp_path: Path) -> None:
    """Python warns of `[[`; that is no matter for the user."""
    path = write(tmp_path, "command: x\nmetrics: {regex: [{name: a, regex: '[[a](x)'}]}\n")
    assert load_job(path).metrics.regex[0].regex == "[[a](x)"


def test_a_required_key_that_was_misspelt_is_told_once(tmp_path: Path) -> None:
    """The unknown key says what was meant; that the right one is missing adds nothing."""
    problems = Problems("f", tmp_path)
    JOB.values(Mapping(1, {"comand": Scalar(1, "x")}, {"comand": 1}), "", problems)
    assert [problem.key for problem in problems.sorted()] == ["comand"]
