"""One save on its way to storage, in a thread of its own, while training goes on.

What fails is tried again, later each time, for as long as nobody waits for it. Once somebody does
(the next save is due, or training ends), a few more tries must do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from graftwork.errors import RunError
from graftwork.store.attempts import SupersededError
from graftwork.store.patience import impatient

# Seconds to the next try: the first, and the longest.
FIRST, LONGEST = 1.0, 60.0
# Tries that are left when somebody waits.
LAST_TRIES = 3

Try = Callable[[Callable[[], None]], None]


class Saving:
    """A save that has begun.

    Args:
        store: Puts this worker's part into storage; called first, with what repeats a step.
        commit: Makes the checkpoint current, once every worker's part is there; only the first
            worker has one.
    """

    def __init__(self, store: Callable[[Try], None], commit: Callable[[Try], None] | None) -> None:
        self._work = (store, commit)
        self._stored = threading.Event()
        self._decided = threading.Event()
        self._waited_for = threading.Event()
        self._complete = False
        self.error: RunError | None = None
        self.retries = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="graftwork-save")
        self._thread.start()

    @property
    def stored(self) -> bool:
        """Whether this worker's part is in storage."""
        return self._stored.is_set() and self.error is None

    @property
    def superseded(self) -> SupersededError | None:
        """The error, if a newer attempt has taken over."""
        return self.error if isinstance(self.error, SupersededError) else None

    def decide(self, *, complete: bool) -> None:
        """Tell whether all workers' parts are stored; without that nothing is made current."""
        if not self._decided.is_set():
            self._complete = complete
            self._decided.set()

    def wait_stored(self) -> bool:
        """Wait for this worker's part; no longer than a few tries take."""
        self._waited_for.set()
        self._stored.wait()
        return self.stored

    def join(self) -> None:
        """Wait for the end; `decide` comes first."""
        self._waited_for.set()
        self._thread.join()

    def _run(self) -> None:
        store, commit = self._work
        try:
            store(self._try)
            self._stored.set()
            if commit is not None:
                self._decided.wait()
                if self._complete:
                    commit(self._try)
        except RunError as error:
            self.error = error
        except Exception as error:  # it must reach whoever waits, or that would be for ever
            self.error = RunError(f"{type(error).__name__}: {error}")
        finally:
            self._stored.set()

    def _try(self, action: Callable[[], None]) -> None:
        """Repeat what the storage refuses.

        Raises:
            RunError: it still does, and somebody waits.
        """
        pause, left = FIRST, LAST_TRIES
        while True:
            try:
                with impatient():
                    return action()
            except SupersededError:
                raise
            except RunError:
                left -= self._waited_for.is_set()
                if left <= 0:
                    raise
            self.retries += 1
            self._waited_for.wait(min(pause, FIRST) if self._waited_for.is_set() else pause)
            pause = min(2 * pause, LONGEST)
