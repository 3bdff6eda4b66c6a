"""Where `wcse` begins: Ctrl-C is an end without a traceback from the first import on."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """`wcse …`; the exit status is 130 after Ctrl-C."""
    # until the commands are there nothing runs that has to be ended in order
    signal.signal(signal.SIGINT, _stop)
    from wcse_lib import cli

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"stopped\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
