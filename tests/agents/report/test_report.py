"""The page: whole in itself, well-formed, and its words agree with its numbers."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser

import av
import pytest

from procosm.agents.report.report import write_report
from procosm.agents.report.sections import duration, honest_limits, number, returns_section
from procosm.world_model.errors import CheckpointError, ProcosmError

VOID = {"meta", "link", "img", "br", "source", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order and gathers every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "poster", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text(finished_run):
    return (finished_run / "report.html").read_text()


def test_the_page_is_well_formed_and_asks_the_network_for_nothing(text):
    page = Page(text)
    assert not page.open
    assert page.addresses and all(address.startswith("data:") for address in page.addresses)
    assert "script" not in page.tags and "@import" not in text and not re.search(r"url\(\s*['\"]?(?!data:)", text)
    assert "default-src 'none'" in text


def test_its_films_are_the_runs_films(text, finished_run, tmp_path):
    films = re.findall(r'src="data:video/mp4;base64,([^"]+)"', text)
    names = ("comparison", "policy_mujoco", "policy_dream")
    assert len(films) == 3
    for content, name in zip(films, names, strict=True):
        assert base64.b64decode(content) == (finished_run / "evaluation" / f"{name}.mp4").read_bytes()
    with av.open(finished_run / "evaluation" / "comparison.mp4") as container:
        assert container.streams.video[0].frames > 0


def test_the_result_comes_first_with_its_interval(text, finished_run):
    trained = json.loads((finished_run / "metrics.json").read_text())["returns"]["mujoco"]["trained"]
    body = text[text.index("<body>") :]
    first = body[: body.index("<h2>")]
    title = r"<body>\s*<h1>InvertedPendulum-v5: the policy .*doing nothing .*; (the dream|whether the dream)"
    assert re.search(title, body)
    assert f"mean return {number(trained['mean'])}" in first and "<title>procosm: return of Inv" in text
    assert f"{number(trained['low'])} to {number(trained['high'])}" in first and ">400<" in first


def test_limits_name_the_horizons_where_the_dream_loses(finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    metrics["verdicts"]["state_nrmse"]["copy last frame"] = {"better": 4, "horizons": 6, "worse_at": [1, 6]}
    assert "By state error the dream is no better than copy last frame at step 1, 6." in honest_limits(metrics)
    metrics["growth"] = []
    assert "growth was not tested" in honest_limits(metrics)


def test_a_run_that_was_not_judged_has_no_page(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match=r"metrics.json does not exist"):
        write_report(run)


@pytest.mark.parametrize("name", ["metrics.json", "policy/training.json", "evaluation/comparison.mp4"])
@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"films": 3}'])
def test_a_damaged_file_is_named_with_what_to_delete(finished_run, tmp_path, name, content):
    run = shutil.copytree(finished_run, tmp_path / "my run")
    (run / name).write_text(content)
    with pytest.raises(CheckpointError, match=r"damaged .*delete .*evaluation.* --run '.*my run'"):
        write_report(run)


@pytest.mark.parametrize(
    ("value", "text"), [(1000.0, "1,000"), (-4.26, "-4.3"), (3.0, "3"), (12345.6, "12,346"), (0.04, "0.0")]
)
def test_numbers_read_as_people_write_them(value, text):
    assert number(value) == text


def test_durations_change_unit_where_seconds_stop_being_clear():
    assert (duration(12.4), duration(89), duration(613)) == ("12 s", "89 s", "10 min 13 s")


@pytest.mark.parametrize(
    ("mean", "low", "high", "said"),
    [
        (-687.2, -695.4, -678.1, ("687.2 less than", "does not live on faults")),
        (50.0, 40.0, 60.0, ("50 more than", "lives partly on faults")),
        (1.0, -2.0, 4.0, ("1 more than", "No difference can be told")),
    ],
)
def test_the_gap_is_said_in_its_direction(finished_run, mean, low, high, said):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    metrics["returns"]["gap"] |= {"mean": mean, "low": low, "high": high}
    section = returns_section(metrics)
    assert all(words in section for words in said)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("returns", "mujoco", "trained", "mean"), float("nan")),
        (("returns", "gap", "low"), "0"),
        (("returns", "dream", "trained", "n"), 0),
        (("frame_size",), -64),
        (("real_steps", "collected"), 1.5),
        (("speed", "mujoco"), float("inf")),
        (("films", "comparison"), "../../../etc/passwd"),
        (("task",), 3),
    ],
)
def test_a_page_is_made_of_numbers_alone(finished_run, tmp_path, place, value):
    run = shutil.copytree(finished_run, tmp_path / "run")
    inner = metrics = json.loads((run / "metrics.json").read_text())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match=rf"damaged .*{place[-1]}(\.\S+)? is|damaged .*not JSON compliant"):
        write_report(run)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("metrics.json", lambda m: m["open_loop"].append(m["open_loop"][0]), "horizons are not those from 1 on"),
        ("metrics.json", lambda m: m["growth"].reverse(), "horizon does not grow"),
        ("metrics.json", lambda m: m["verdicts"]["psnr_db"]["copy last frame"].update(better=99), "verdicts are not"),
        ("metrics.json", lambda m: m["returns"]["mujoco"]["trained"].update(mean=1e6), "with an interval from"),
        ("metrics.json", lambda m: m["returns"]["gap"].update(mean=0.0, low=0.0, high=0.0), "gap.mean is 0.0"),
        ("metrics.json", lambda m: m["real_steps"].update(collected=1), "not the sum of its parts"),
        ("policy/training.json", lambda log: log["rounds"].reverse(), "rounds are not numbered"),
        ("policy/training.json", lambda log: log["truth"][0]["lengths"].pop(), "not of the same episodes"),
    ],
)
def test_numbers_that_contradict_each_other_make_no_page(finished_run, tmp_path, file, change, said):
    run = shutil.copytree(finished_run, tmp_path / "run")
    values = json.loads((run / file).read_text())
    change(values)
    (run / file).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=rf"{file} is damaged .*{said}.*delete .*evaluate --run"):
        write_report(run)


def test_results_that_are_not_there_make_no_page(finished_run, tmp_path):
    with pytest.raises(ProcosmError, match=r"--results .*nowhere is no folder"):
        write_report(finished_run, tmp_path / "nowhere")
