"""The command line: verbs teach, bad usage exits with 2, our errors with 1 and one clear line, Ctrl-C resumes."""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from procosm.agents.cli import main, overview, program, what_next
from procosm.agents.verbs import VERBS
from procosm.envs.truth.names import ALLOWED


def status(*arguments: str) -> int:
    """The exit status of ``procosm arguments`` in this process."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_help_answers_without_loading_anything_heavy():
    heavy = "{'torch', 'mujoco', 'gymnasium', 'stable_baselines3', 'tyro'} & set(sys.modules)"
    code = f"import sys\nfrom procosm.agents.cli import main\nmain(['--help'])\nassert not {heavy}"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 2.0
    assert done.stdout.strip() == overview()


@pytest.mark.parametrize("asked", [None, "ACTIVE"])
def test_threads_of_commands_wait_without_spinning_unless_the_user_says_otherwise(asked, tmp_path):
    code = (
        "import os, sys\nfrom procosm.agents.cli import main\n"
        "try: main(['report', '--run', 'nowhere'])\n"
        "except SystemExit: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": asked} if asked else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == f"{asked or 'PASSIVE'} True\n", done.stderr


def test_overview_names_every_verb(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in VERBS)


def test_version_is_the_packages(capsys):
    main(["--version"])
    assert re.fullmatch(r"\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_teaches(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert status(verb, "--help") == 0
    shown = capsys.readouterr().out
    assert f"procosm {verb}" in shown and "Example:" in shown and len(shown.splitlines()) > 8
    options = re.findall(r"--[a-z][a-z-]+", shown.split("options")[-1])
    assert options


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], "usage: procosm VERB"),
        (["colect"], "did you mean collect?"),
        (["zzz"], "the verbs are demo, run"),
        (["run", "--env", "Reacher"], "--out"),
        (["train", "--data", "a", "--out", "b", "--sped", "1"], "--sped"),
        (["train-policy", "--world-model", "a", "--out", "b", "--algorithm", "dqn"], "dqn"),
        (["evaluate", "--run", "a", "--episodes", "many"], "many"),
    ],
)
def test_bad_usage_exits_with_2(arguments, shown, capsys):
    assert status(*arguments) == 2
    printed = capsys.readouterr()
    assert shown in printed.err + printed.out


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["run", "--env", "NoSuchTask-v5", "--out", "{tmp}/run"], "NoSuchTask-v5"),
        (["run", "--env", "Reecher-v5", "--out", "{tmp}/run"], "Reacher-v5"),
        (["collect", "--env", "Reacher", "--out", "{tmp}/run", "--steps", "3"], "--steps 3 must be at least 100"),
        (["train", "--data", "{tmp}/none", "--out", "{tmp}/world_model"], "{tmp}/none"),
        (["train-policy", "--world-model", "{tmp}/none", "--out", "{tmp}/policy"], "no checkpoint at {tmp}/none"),
        (["evaluate", "--run", "{tmp}/none"], "none"),
        (["report", "--run", "{tmp}/none"], "metrics.json does not exist"),
        (["play", "InvertedPendulm"], "did you mean InvertedPendulum?"),
        (["play", "reecher"], "did you mean Reacher?"),
        (["play", "{tmp}/none"], "there is no {tmp}/none"),
        (["play", "--port", "99999"], "--port 99999 must be at most 65535"),
        (["play", "--port", "-1"], "--port -1 must be at least 0"),
        (["collect", "--env", "Reacher", "--out", "{tmp}/run", "--frame-size", "50"], "--frame-size 50"),
        (["demo", "--out", "{tmp}/run", "--seed", "-1"], "--seed -1 must be at least 0"),
        (["train", "--data", "a", "--out", "b", "--density", "0"], "--density 0.0 must be greater than 0"),
        (["train-policy", "--world-model", "a", "--out", "b", "--learning-rate", "-1"], "--learning-rate -1.0"),
        (["train-policy", "--world-model", "a", "--out", "b", "--device", "gpu"], "--device gpu is no device"),
    ],
)
def test_our_errors_exit_with_1_and_one_line_that_names_the_thing(arguments, shown, tmp_path, capsys):
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    assert status(*filled) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"procosm {arguments[0]}: ") and shown.format(tmp=tmp_path) in line
    assert "Traceback" not in line


@pytest.mark.parametrize(
    "wrong",
    [
        *({"preset": "tiny"}, {"frame-size": "50"}, {"frame-size": "65"}, {"gamma": "1.0"}, {"gamma": "nan"}),
        *({"episodes": "0"}, {"dreams": "0"}, {"dreams": "1"}, {"horizon": "-3"}, {"iterations": "0"}),
        *({"seed": "-1"}, {"seed": str(2**40)}, {"steps": "10"}, {"density": "0"}, {"density": "1.5"}),
        *({"action-repeat": "0"}, {"processes": "0"}, {"frame-size": "32", "observation": "pixels"}),
    ],
    ids=str,
)
def test_settings_of_every_stage_are_judged_before_the_first(wrong, tmp_path, capsys):
    options = [word for name, value in wrong.items() for word in (f"--{name}", value)]
    assert status("run", "--env", "InvertedPendulum", "--out", str(tmp_path / "run"), *options) == 1
    printed = capsys.readouterr()
    assert any(f"--{name}" in printed.err or f"preset called {value!r}" in printed.err or f"is called {value!r}"
               in printed.err for name, value in wrong.items())  # fmt: skip
    assert "[1/5]" not in printed.err and not (tmp_path / "run").exists()


def test_a_verb_ends_by_naming_what_it_made_and_what_comes_next(tiny_checkpoint, tmp_path, capsys):
    made = tmp_path / "run" / "policy"
    small = ["--dreams", "4", "--horizon", "2", "--rollout-steps", "2", "--iterations", "1", "--truth-every", "0"]
    assert status("train-policy", "--world-model", str(tiny_checkpoint), "--out", str(made), *small) == 0
    assert capsys.readouterr().out == f"Wrote {made}\nNext: {program()} evaluate --run {made.parent}\n"


def test_the_next_command_is_told_of_modules_that_only_this_one_may_import(
    tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv(ALLOWED, "mine,email")
    small = ["--dreams", "4", "--horizon", "2", "--rollout-steps", "2", "--iterations", "1", "--truth-every", "0"]
    made = tmp_path / "policy"
    arguments = ["train-policy", "--world-model", str(tiny_checkpoint), "--out", str(made), *small]
    assert status("--allow-import=json.tool", *arguments, "--allow-import", "email") == 0
    advice = f"Next: {program()} evaluate --run {tmp_path} --allow-import json.tool"
    assert capsys.readouterr().out == f"Wrote {made}\n{advice}\n"


def test_a_task_of_a_module_is_collected_and_the_next_command_may_import_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(ALLOWED, "")
    arguments = ["--env", "tests.envs.own_tasks:Told-v0", "--out", str(tmp_path), "--steps", "100", "--processes", "1"]
    assert status("collect", *arguments, "--frame-size", "32") == 0
    assert capsys.readouterr().out.endswith("/world_model --allow-import tests.envs.own_tasks\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--run", "x", "--allow-import"],
        ["--allow-import=", "play"],
        ["--allow-import", "--run", "play"],
        ["--allow-import", "arm_task:Arm-v0", "play"],
    ],
)
def test_what_is_to_be_imported_has_to_be_named(arguments, capsys):
    assert status(*arguments) == 2
    assert "--allow-import needs the name of a module" in capsys.readouterr().err


def test_collecting_says_what_comes_next_and_says_it_once(tmp_path, capsys):
    arguments = ["--env", "InvertedPendulum", "--out", str(tmp_path), "--steps", "100", "--processes", "1"]
    assert status("collect", *arguments) == 0
    made = tmp_path / "data"
    advice = f"Next: {program()} train --data {made} --out {tmp_path}/world_model"
    assert capsys.readouterr().out == f"Wrote {made}\n{advice}\n"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].next])
def test_paths_with_spaces_are_quoted_in_what_to_do_next(verb):
    made = Path("/tmp/my runs/it's one") / "made"
    advice = what_next(VERBS[verb], made)
    for command in re.findall(r"Next: (.*)", advice):
        words = shlex.split(command)
        assert all(not word.startswith("/") or word.startswith("/tmp/my runs/it's one") for word in words[1:])
        assert any(word.startswith("/tmp/my runs/it's one") for word in words)
    words = shlex.split(what_next(VERBS["train"], made, ["/tmp/my tasks/arm.py"]).splitlines()[0])
    assert words[-2:] == ["--allow-import", "/tmp/my tasks/arm.py"]
    for call in re.findall(r"checkpoint=(.*)\)", advice):
        assert ast.literal_eval(call) == str(made)


def test_advice_names_a_program_that_a_shell_finds(tmp_path, monkeypatch):
    environment = tmp_path / "my env" / "bin"
    environment.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(environment / "python"))
    monkeypatch.chdir(tmp_path)
    assert shlex.split(program()) == [str(environment / "python"), "-m", "procosm.agents.cli"]
    script = environment / "procosm"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))  # as after `make demo`, which activates nothing
    assert shlex.split(program()) == ["my env/bin/procosm"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert shlex.split(program()) == [str(script)]
    monkeypatch.setenv("PATH", f"{environment}{os.pathsep}{tmp_path}")
    assert program() == "procosm"


@pytest.mark.parametrize("arguments", ["--help", "run --help", "accelerator --help", "--version"])
def test_a_reader_that_leaves_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "procosm.agents.cli", *arguments.split()]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_says_how_to_go_on(tiny_checkpoint, tmp_path):
    made = tmp_path / "my policy"
    arguments = ["train-policy", "--world-model", str(tiny_checkpoint), "--out", str(made), "--dreams", "8"]
    arguments += ["--iterations", "100000", "--truth-every", "0", "--allow-import", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "procosm.agents.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background a shell has it ignored
    )
    while not (made / "training.zip").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].endswith(f"goes on from here: {program()} {shlex.join(arguments)}")
    assert "Traceback" not in errors
