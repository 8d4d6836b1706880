"""One bug to seed."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import modelserve

PACKAGE = Path(modelserve.__file__).parent


class Bug(NamedTuple):
    """One small edit of one file of the package, and why it is a bug.

    ``equivalent`` argues why no test can tell the edit from the original, if none can.
    """

    file: str
    old: str
    new: str
    why: str
    equivalent: str = ""

    @property
    def place(self):
        """File and line. Raises LookupError unless the text to be replaced is there once."""
        text = (PACKAGE / self.file).read_text()
        if (found := text.count(self.old)) != 1:
            raise LookupError(f"{self.file} has this {found} times, and must have it once: {self}")
        return f"{self.file}:{text[: text.index(self.old)].count(chr(10)) + 1}"

    @contextlib.contextmanager
    def seeded(self, package):
        """Make the edit in a copy of the package, and undo it at the end."""
        path = package / self.file
        text = path.read_text()
        path.write_text(text.replace(self.old, self.new))
        try:
            yield
        finally:
            path.write_text(text)
