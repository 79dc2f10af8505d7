"""Asking: from asks to answers in the same order, through the cache, within the limits."""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from graftwork.errors import RunError
from graftwork_train.synthesis._answers import Answers
from graftwork_train.synthesis._text import tokens
from graftwork_train.synthesis.base import Answer, Ask
from graftwork_train.synthesis.writers.base import Scribe

# Before so many have failed, no share of them is judged.
SURE_AFTER = 20
_EXAMPLES = 3
# Of such answers no text is the writer's.
_UNSAID = ("not_json", "no_answer")
# Asks that wait or are under way, for each that may be under way.
_WINDOW = 4
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares of what was asked that may fail, or be nonsense."""

    failed: float
    nonsense: float


class Clerk:
    """Has asks answered by a scribe, and keeps count.

    Args:
        scribe: Who writes.
        answers: What has been written before.
        limits: When to give up.

    Attributes:
        counts: Answers by reason.
        requests: Asks that the scribe was given; the others were answered by the cache.
        read: Words and signs of the prompts that the scribe was given.
        written: Words and signs of its answers.
    """

    def __init__(self, scribe: Scribe, answers: Answers, limits: Limits) -> None:
        self.counts: Counter[str] = Counter()
        self.requests = 0
        self.read = 0
        self.written = 0
        self._scribe, self._answers, self._limits = scribe, answers, limits
        self._lock = threading.Lock()
        self._examples: list[str] = []

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[Ask, Answer]]:
        """Every ask with its answer, in order.

        Raises:
            RunError: more failed, or were nonsense, than the limits allow, or the writer refuses
                all further work.
        """
        pool = ThreadPoolExecutor(self._scribe.concurrency, thread_name_prefix="ask")
        window: deque[tuple[Ask, Future[Answer]]] = deque()
        try:
            for ask in asks:
                window.append((ask, pool.submit(self._answered, ask)))
                if len(window) >= _WINDOW * self._scribe.concurrency:
                    yield self._settled(*window.popleft())
            while window:
                yield self._settled(*window.popleft())
            self._judge(final=True)
        finally:
            self._scribe.stop()
            self._answers.flush()
            pool.shutdown(cancel_futures=True)
            self._answers.flush()

    def metrics(self) -> dict[str, float]:
        """`asked`, `requests`, `failed/<reason>`, `nonsense/<reason>`, tokens, `writing_flops`."""
        found = {
            "asked": float(self.counts.total()),
            "requests": float(self.requests),
            "tokens_read": float(self.read),
            "tokens_written": float(self.written),
        }
        if self._scribe.flops:
            found["writing_flops"] = self._scribe.flops
        for reason, count in sorted(self.counts.items()):
            if reason != "ok":
                family = "failed" if reason.startswith("failed_") else "nonsense"
                found[f"{family}/{reason.removeprefix('failed_')}"] = float(count)
        return found

    def _answered(self, ask: Ask) -> Answer:
        key = self._answers.key(ask)
        known = self._answers.get(key)
        if known is not None and known.reason == "ok":
            return known
        answer = self._scribe.answer(ask, useful)
        with self._lock:
            self.requests += 1
            self.read += tokens(ask.system) + tokens(ask.prompt)
            if not answer.reason.startswith("failed_") and answer.reason not in _UNSAID:
                self.written += tokens(answer.text)
        # What was of no use may be the fault of a server that is mended by the next attempt.
        if answer.reason == "ok":
            self._answers.put(key, answer)
        return answer

    def _settled(self, ask: Ask, future: Future[Answer]) -> tuple[Ask, Answer]:
        answer = future.result()
        self.counts[answer.reason] += 1
        if answer.reason != "ok" and len(self._examples) < _EXAMPLES:
            self._examples.append(f"{answer.reason}: {ask.origin.id}: {answer.text[:120]!r}")
        self._judge(final=False)
        return ask, Answer("", answer.reason) if answer.reason != "ok" else answer

    def _judge(self, *, final: bool) -> None:
        total = self.counts.total()
        failed = sum(n for reason, n in self.counts.items() if reason.startswith("failed_"))
        nonsense = total - failed - self.counts["ok"]
        kinds = (
            ("failed_limit", "requests failed for good", failed, self._limits.failed),
            ("nonsense_limit", "answers were of no use", nonsense, self._limits.nonsense),
        )
        for name, what, count, limit in kinds:
            if count > limit * total and (final or count >= SURE_AFTER):
                listed = "".join(f"\n      {line}" for line in self._examples)
                raise RunError(
                    f"{count:,} of {total:,} {what} ({count / total:.1%}; {name} is "
                    f"{limit:.1%}){listed}",
                    f"Look at the writer, or raise '{name}'. Good answers are kept and not asked "
                    f"again.",
                )


def useful(ask: Ask, text: str) -> str:
    """`ok`, or what is wrong with an answer by its looks and by what the method asks of it."""
    stripped = text.strip()
    if not stripped:
        return "empty"
    if len(_UNPRINTABLE.findall(stripped)) > 0.01 * len(stripped):
        return "unprintable"
    lines = [line.strip() for line in stripped.splitlines() if line.strip()]
    if len(lines) >= 8 and len(set(lines)) < 0.3 * len(lines):
        return "repeats"
    words = stripped.split()
    if len(words) >= 40 and len(set(words)) < 0.1 * len(words):
        return "repeats"
    if len(stripped) > 10 * len(ask.text) + 2000:
        return "too_long"
    return ask.fits(text) if ask.fits is not None else "ok"
