"""The one error that a person can mend."""


class StudyError(ValueError):
    """Something in a study's files or parameters is wrong; the message names the file, the key and the remedy."""
