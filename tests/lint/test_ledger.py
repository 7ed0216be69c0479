"""The ledger of standards (docs/rfc): every citation leads somewhere, what is done has a test, what is not has a reason,
mutants apply, and the page is what the ledger says."""

import sys

from lint import TOP, finish

sys.path.insert(0, str(TOP / "tools"))
from netdtools.ledger import Ledger  # noqa: E402

if __name__ == "__main__":
    finish(Ledger(TOP).check())
