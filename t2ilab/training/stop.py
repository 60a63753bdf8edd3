"""Stop signals: the first one waits for the end of the step; a second one does not wait.

It comes as Ctrl-C, a scheduler's SIGTERM or the SIGHUP of a closed terminal.
"""
import signal

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]


class Uninterrupted:
    """Holds stop signals back: `with Uninterrupted() as stop:` one step.

    `stop.asked`: was a signal held back?  Outside the main thread nothing is."""

    def __enter__(self):
        self.asked = False
        self.before = {}
        try:
            for number in SIGNALS:
                # nohup ignores SIGHUP: let it
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.before[number] = signal.signal(number, self._hold_back)
        except ValueError:                                  # only the main thread may
            pass
        return self

    def _hold_back(self, *_):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)
