"""What is wrong with a file of a network."""


class NetworkFileError(ValueError):
    """A file that cannot be read as its format or does not fit a plan; the message says what and what to do."""
