"""A model that was tuned by a prompt: its answer is the name of the likeliest label."""

from __future__ import annotations

import threading

import torch

from graftwork.spec.writers import Classifier
from graftwork_train.data.scoring.passes import forward_flops
from graftwork_train.nn import load_model
from graftwork_train.prompted import load_prompter, told
from graftwork_train.synthesis.base import Answer, Ask
from graftwork_train.synthesis.writers.base import Office, Scribe, Useful, hire


class ClassifierScribe:
    """Labels one document after the other."""

    concurrency = 1

    def __init__(self, office: Office) -> None:
        torch.set_num_threads(office.cores)
        folder = office.model()
        self._prompter = load_prompter(folder)
        gpu = office.gpu and torch.cuda.is_available()
        self._model = load_model(folder).to("cuda" if gpu else "cpu").eval()
        self._stopped = threading.Event()
        self._passed = 0

    @property
    def flops(self) -> float:
        """Of the positions that the model went over so far."""
        return forward_flops(self._model, self._passed)

    def answer(self, ask: Ask, useful: Useful) -> Answer:
        """A label, which is always of use."""
        if self._stopped.is_set():
            return Answer("", "failed_stopped")
        (number,) = told(self._model, self._prompter, [ask.origin])
        self._passed += sum(len(each.ids) for each in self._prompter.ask([ask.origin]))
        return Answer(self._prompter.labels[number])

    def stop(self) -> None:
        """Label no further document."""
        self._stopped.set()


@hire.register
def hire_classifier(word: Classifier, office: Office) -> Scribe:
    """A scribe with the model loaded.

    Raises:
        RunError: the model was not tuned by a prompt.
    """
    return ClassifierScribe(office)
