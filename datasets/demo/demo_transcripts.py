"""Made-up transcripts of the demo of BAH, in the form of its files: who hesitates says so, and pauses."""

from pathlib import Path

import numpy as np

CALM = (
    ("Yes, I will do it every morning.", "It is good for me."),
    ("I have made my decision.", "I begin on Monday, and I am glad."),
    ("My family helps me with it.", "That makes it easy."),
)
TORN = (
    ("Well, I would like to,", "but I do not know."),
    ("I mean, part of me wants to stop,", "and part of me, um, does not."),
    ("Maybe, it depends.", "I am not sure that I can do it."),
)
PAUSE_SHARES = {False: (0.05, 0.12), True: (0.2, 0.4)}  # of the length, between the two sentences


def write_transcript(path: Path, hesitates: bool, duration_s: float, rng: np.random.Generator) -> str:
    """Write what somebody says in a video of some length, as Whisper gives it; returns the text."""
    texts = (TORN if hesitates else CALM)[int(rng.integers(len(CALM)))]
    lead, tail = rng.uniform(0.03, 0.1, size=2) * duration_s
    pause = rng.uniform(*PAUSE_SHARES[hesitates]) * duration_s
    middle = lead + (duration_s - lead - pause - tail) * len(texts[0]) / sum(map(len, texts))
    lines = ["chunks:"]
    for text, start, end in zip(texts, (lead, middle + pause), (middle, duration_s - tail), strict=True):
        lines += ["- language: english", f"  text: ' {text}'", "  timestamp: !!python/tuple"]
        lines += [f"  - {start:.2f}", f"  - {end:.2f}"]
    lines.append(f"text: ' {' '.join(texts)}'")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return " ".join(texts)
