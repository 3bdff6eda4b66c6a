"""The first minute: two files of samples compared at once, and a folder to begin a study in"""

from wcse_lib.start.comparison import Answered, Question, compare_files
from wcse_lib.start.folder import new_folder
from wcse_lib.start.lab import lab_command
from wcse_lib.start.prices import Prices

__all__ = ["Answered", "Prices", "Question", "compare_files", "lab_command", "new_folder"]
