"""Research kit for compute-matched sampling studies: which generator makes the better training set?"""

__version__ = "0.1.0"
