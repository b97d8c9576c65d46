"""The text that the tiny tokenizers are trained on."""

from __future__ import annotations

TRAINING_TEXT: tuple[str, ...] = (
    "The night train leaves the harbour at ten and reaches the mountains before the sun is up.",
    "She keeps a list of the trains that are late, and of the reasons that are given for it.",
    "Bread needs flour, water, salt and time; the rest is the baker's patience.",
    "A model that loads is not yet a model that answers: the two have different reasons to fail.",
    "When the rain came in the evening, the children ran from the meadow to the old mill.",
    "The reader asks a question, the assistant thinks about it and gives an answer.",
    "What is the weather in the town on the river? It is cold there, and the wind comes from the north.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "for index in range(10):\n    print(index, index * index)\n",
    "The answer is 42, the question was in the other letter, and the letter was never sent.",
    "He reads the instructions, and then he does the other thing that the instructions are silent about.",
    "system user assistant: the system is the one who says how the user is to be answered.",
)
"""Sentences in which the commonest letter pairs of English occur often enough to become tokens."""


def text() -> list[str]:
    """The sentences, several times: the trainers drop what is seen once."""
    return list(TRAINING_TEXT) * 4
