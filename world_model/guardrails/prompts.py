"""Prompts and metadata that are refused: words of a list in any of their forms, and a classifier that a user brings.

A check that cannot be made refuses, too: a guard that fails open is none.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from procosm.world_model.errors import ProcosmError

Classifier = Callable[[str], float]
"""How likely a text is to be unsafe, 0 to 1."""
BLOCKLIST = Path(__file__).with_name("blocklist.txt")
ALLOWED = "allowed"
"""The category whose phrases are left out of a text before it is judged."""
LOOKALIKES = str.maketrans("0134578@$!|", "oieastbasil")
LONGEST = 20_000
"""Letters of a text at most; nobody asks a robot for more."""
VOWELS = "aeiou"


@dataclass(frozen=True)
class Verdict:
    """Whether something may pass, and why not."""

    passed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptGuard:
    """Judges texts.

    Attributes:
        blocked: words and phrases by their category; by default the list that comes with procosm.
        classifier: a further opinion, such as a language model's; None for none.
        threshold: from which of its values on a text is refused.
    """

    blocked: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: read_blocklist(BLOCKLIST))
    classifier: Classifier | None = None
    threshold: float = 0.5

    def judge(self, text: str) -> Verdict:
        """Whether a text may be asked for."""
        if len(text) > LONGEST:
            return Verdict(False, (f"it has {len(text):,} letters, and at most {LONGEST:,} are judged",))
        found = []
        for reading in dict.fromkeys(readings(text)):
            spoken = f" {reading} "
            for phrase in self.blocked.get(ALLOWED, ()):
                spoken = forms(phrase).sub(" ", spoken)
            for category, words in self.blocked.items():
                if category == ALLOWED:
                    continue
                found += [f"{category}: {word}" for word in words if forms(word).search(spoken)]
        if self.classifier is not None:
            found += self._classified(text)
        return Verdict(not found, tuple(dict.fromkeys(found)))

    def judge_metadata(self, values: Mapping[str, object]) -> Verdict:
        """Whether any text in metadata, however deep, is refused."""
        reasons = [f"{place}: {why}" for place, text in _texts(values, "") for why in self.judge(text).reasons]
        return Verdict(not reasons, tuple(reasons))

    def _classified(self, text: str) -> list[str]:
        assert self.classifier is not None
        try:
            risk = float(self.classifier(text))
        except Exception as error:  # whatever a user's model raises, the text was not judged
            return [f"the classifier failed ({type(error).__name__}: {error})"]
        if not 0 <= risk <= 1:
            return [f"the classifier said {risk}, which is no probability"]
        return [f"the classifier says {risk:.2f}"] if risk >= self.threshold else []


def readings(text: str) -> Iterable[str]:
    """A text as words between single spaces: plain, with digits and signs read as the letters they stand for, and
    with letters that were spaced out or split by signs joined again."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    folded = "".join(letter for letter in folded if not unicodedata.combining(letter) and letter.isprintable())
    plain = " ".join(re.findall(r"[a-z]+", re.sub(r"['’]s\b", "", folded)))
    yield plain
    yield " ".join(re.findall(r"[a-z]+", folded.translate(LOOKALIKES)))
    yield re.sub(r"\b(?:[a-z] ){2,}[a-z]\b", lambda match: match[0].replace(" ", ""), plain)
    yield " ".join(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])[-_.*](?=[a-z])", "", folded)))


@cache
def forms(phrase: str) -> re.Pattern[str]:
    """Matches a phrase whose every word stands in any regular form: plural, third person, past, -ing, -er, -ers."""
    return re.compile(" (?:" + r") (?:".join("|".join(sorted(inflections(word))) for word in phrase.split()) + ") ")


def inflections(word: str) -> set[str]:
    """The forms of an English lemma by the regular rules; irregular ones stand in the list as words of their own."""
    endings = {word, f"{word}s", f"{word}ed", f"{word}ing", f"{word}er", f"{word}ers"}
    if word.endswith(("s", "x", "z", "ch", "sh")):
        endings |= {f"{word}es"}
    if word.endswith("e"):
        endings |= {f"{word}d", f"{word}r", f"{word}rs", f"{word[:-1]}ing"}
    if word.endswith("y") and len(word) > 2 and word[-2] not in VOWELS:
        endings |= {f"{word[:-1]}{ending}" for ending in ("ies", "ied", "ier", "iers")}
    if re.search(r"[^aeiou][aeiou][^aeiouwxy]$", word) and len(word) <= 6:
        endings |= {f"{word}{word[-1]}{ending}" for ending in ("ed", "ing", "er", "ers")}
    return endings


def read_blocklist(path: Path) -> dict[str, tuple[str, ...]]:
    """A list of lemmas and phrases, one a line, under ``[category]`` headings; ``#`` begins a comment.

    Raises:
        ProcosmError: there is no such text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProcosmError(f"--blocklist {path} cannot be read ({error}): give a text file, a word a line") from error
    found: dict[str, list[str]] = {}
    category = "blocked"
    for line in lines:
        word = line.partition("#")[0].strip().casefold()
        if word.startswith("["):
            category = word.strip("[]")
        elif word:
            found.setdefault(category, []).append(word)
    return {name: tuple(words) for name, words in found.items()}


def _texts(values: object, place: str) -> Iterable[tuple[str, str]]:
    if isinstance(values, str):
        yield place, values
    elif isinstance(values, Mapping):
        for key, inner in values.items():
            yield place, str(key)
            yield from _texts(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(values, list | tuple):
        for index, inner in enumerate(values):
            yield from _texts(inner, f"{place}[{index}]")
