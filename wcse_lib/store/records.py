"""The old name of this folder's modules, for tests that still import it."""

import os as os
from pathlib import Path as Path

from wcse_lib.store import *  # noqa: F403
from wcse_lib.store.readers import _read_jsonl as read_jsonl  # noqa: F401
