"""Captions by a vision-language model that a user has on disk: a folder as transformers saves one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from procosm.world_model.curation.quality import spread
from procosm.world_model.data.task import Task
from procosm.world_model.errors import ProcosmError
from procosm.world_model.threads import one_thread

LOOKS, WORDS = 4, 60
"""Frames of a clip that the model is shown, and tokens that it answers with, at most."""
QUESTION = "These are frames of one video of a robot, in order. Say in one sentence what the robot does."


@dataclass(frozen=True)
class VisionLanguageCaptioner:
    """Asks a model about a few frames of a clip, one below the other in one picture; the likeliest words, no draws.

    Attributes:
        folder: of the model and its processor, of any kind that transformers calls image-text-to-text. It is opened
            where it is first asked, once in a process, and nothing is looked for on a network.
    """

    folder: Path

    def checked(self) -> "VisionLanguageCaptioner":
        """The same, once it is known that it opens; raises ProcosmError where it does not."""
        _opened(self.folder)
        return self

    @one_thread()
    @torch.inference_mode()
    def caption(self, frames: np.ndarray, task: Task, text: str, tags: Sequence[str]) -> str:
        """See ``annotate.Captioner``.

        Raises:
            ProcosmError: there is no such model in the folder.
        """
        from PIL import Image

        model, processor = _opened(self.folder)
        picture = Image.fromarray(np.concatenate(list(spread(frames, LOOKS))))
        question = f"{QUESTION} It was asked: {text}." if text else QUESTION
        inputs = _asked(processor, picture, question)
        answer = model.generate(**inputs, max_new_tokens=WORDS, do_sample=False)
        said: str = processor.batch_decode(answer, skip_special_tokens=True)[0].strip()
        prompt = processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)[0].strip()
        return said.removeprefix(prompt).strip() or said


def _asked(processor: Any, picture: Any, question: str) -> Any:
    """What a model is given; those that converse have a template for a question about a picture."""
    if not getattr(processor, "chat_template", None):
        return processor(images=picture, text=question, return_tensors="pt")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


@cache
def _opened(folder: Path) -> tuple[Any, Any]:
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise ProcosmError("--captioner needs transformers: pip install 'procosm[text]'") from error
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise ProcosmError(
            f"{folder} holds no vision-language model that can be opened ({first:.200}): give a folder that "
            "transformers' save_pretrained wrote, model and processor"
        ) from error
    return model.eval(), processor
