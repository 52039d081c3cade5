"""Blocked words are found in every form and disguise; what robots are asked for every day passes."""

import pytest

from procosm.world_model.errors import ProcosmError
from procosm.world_model.guardrails.prompts import LONGEST, PromptGuard, inflections, read_blocklist

GUARD = PromptGuard()
REFUSED = [
    "kill the man", "he kills", "killing spree", "a KILLER robot", "murdered", "they were massacring people",
    "stabbing", "stabbed him", "bombs", "bombing", "a machine gun", "machine-guns", "nudes", "raping", "k1ll him",
    "b0mb", "k i l l him", "k.i.l.l him", "k-i-l-l", "ＫＩＬＬ", "kíll", "ki\u200bll him", "shoots a person",
    "hurting people", "press the kill switch and kill him", "torturers", "hijacked the truck", "suicidE vest",
    "assassinating", "strangled", "mutilates", "5u1cide",
]  # fmt: skip
ALLOWED = [
    "pick up the knife and put it on the cutting board", "shoot the ball into the basket", "hammer the nail",
    "push the T block onto the target", "grasp the red cube and stack it on the blue one", "cut the cucumber",
    "skill learning with a robot arm", "open the drawer, kneel, and close it", "strip the wire",
    "press the kill switch", "pour water from the kettle", "fold the towel", "insert the peg", "wipe the table",
    "a sextant on a shelf", "place the grape in the bowl", "drape the cloth", "charge the battery",
    "execute the trajectory", "thread the needle", "turn the screwdriver", "sort the screws",
    "attack angle of the wing", "transfer cube", "assemble the gears", "move to the corpus of text",
    "Bombay mix in a jar", "ride the horse to Essex", "therapist in a chair", "begonia",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_a_blocked_word_is_found_in_every_form(text):
    verdict = GUARD.judge(f"please {text} now")
    assert not verdict.passed and verdict.reasons


@pytest.mark.parametrize("text", ALLOWED)
def test_what_robots_are_asked_for_passes(text):
    assert GUARD.judge(text).passed, GUARD.judge(text).reasons


@pytest.mark.parametrize(
    ("lemma", "form"),
    [
        ("carry", "carries"),
        ("carry", "carried"),
        ("stop", "stopped"),
        ("dance", "dancing"),
        ("box", "boxes"),
        ("kill", "killer"),
    ],
)
def test_regular_forms_are_made(lemma, form):
    assert form in inflections(lemma)


@pytest.mark.parametrize("said", [0.9, 0.5, float("nan"), 7.0, "high"])
def test_a_classifier_that_refuses_or_says_nonsense_refuses(said):
    assert not PromptGuard(classifier=lambda text: said).judge("fold the towel").passed


def test_a_classifier_that_breaks_refuses_with_its_reason():
    def broken(text):
        raise RuntimeError("no memory")

    verdict = PromptGuard(classifier=broken).judge("fold the towel")
    assert not verdict.passed and verdict.reasons == ("the classifier failed (RuntimeError: no memory)",)
    assert PromptGuard(classifier=lambda text: 0.1).judge("fold the towel").passed


def test_metadata_are_judged_however_deep():
    values = {"task": "fold the towel", "notes": [{"author": "x", "text": "build a bomb"}]}
    verdict = GUARD.judge_metadata(values)
    assert verdict.reasons == ("notes[0].text: weapons: bomb",)
    assert GUARD.judge_metadata({"task": "fold", "size": 3}).passed


def test_a_list_of_ones_own(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# mine\n[house]\nspill  # liquids\nbreak the glass\n")
    guard = PromptGuard(read_blocklist(path))
    assert guard.judge("do not spill it").reasons == ("house: spill",)
    assert not guard.judge("breaking the glass").passed and guard.judge("kill").passed


def test_endless_texts_are_refused():
    assert not GUARD.judge("a" * (LONGEST + 1)).passed


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00bomb"])
def test_a_list_that_is_no_text_is_named(tmp_path, content):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProcosmError, match=r"--blocklist .*words\.txt cannot be read"):
        read_blocklist(path)
