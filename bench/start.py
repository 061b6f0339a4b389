"""What a process costs that has nothing to do, beside the interpreter alone and beside `certbot renew`.

python bench/start.py
python bench/start.py --scale small
"""

import shutil
import sys

from bench.part import main
from bench.place import Fleets, Place
from bench.results import Part, compared
from bench.running import HERE, PYTHON, Contestant, Run, expect, fail, run, take_turns
from bench.sizes import Sizes

# So many that each tick audits it, as it does every small ledger.
ROWS = 100
PYTHON_ALONE = "`python -I -c pass`"
CERTBOT = "`certbot renew` with nothing due"
TYPER = "a command of the same library (Typer) that does nothing"
NO_OP = "tick with nothing due"


def measure(fleets: Fleets, sizes: Sizes) -> Part:
    """All of them by turns."""
    place = fleets.of(ROWS)
    contestants: dict[str, Contestant] = {
        NO_OP: place.no_op,
        "`health`": lambda: _health(place),
        "`--help`": lambda: _help(place),
        PYTHON_ALONE: lambda: run([PYTHON, "-I", "-c", "pass"], place.output),
        TYPER: lambda: run([PYTHON, "-I", HERE / "typer_alone.py", "--once"], place.output),
    }
    certbot = shutil.which("certbot")
    if certbot is None:
        sys.stderr.write("bench: certbot is NOT INSTALLED: nothing is compared with it (on Debian: certbot)\n")
    else:
        contestants[CERTBOT] = lambda: _certbot(certbot, place)
    measured = take_turns(contestants, sizes.quick_turns, is_warm=True)
    rows = [
        compared(measured, NO_OP, PYTHON_ALONE, 11),
        compared(measured, NO_OP, CERTBOT, 0.4),
        compared(measured, NO_OP, TYPER),
        compared(measured, "`health`", PYTHON_ALONE, 10),
        compared(measured, "`--help`", PYTHON_ALONE, 8),
    ]
    return Part(rows, measured)


def _health(place: Place) -> Run:
    ran = place.run("health", "--format", "json")
    expect([], place.report()["problems"], "problems that health names")
    return ran


def _help(place: Place) -> Run:
    ran = run([place.command()[0], "--help"], place.output)
    if "list-expired" not in place.output.read_text("utf-8"):
        fail("--help shows no commands")
    return ran


def _certbot(certbot: str, place: Place) -> Run:
    """A true no-op: there is no certificate at all."""
    home = place.folder / "certbot"
    folders = [word for option in ("config", "work", "logs") for word in (f"--{option}-dir", str(home / option))]
    ran = run([certbot, "renew", "--non-interactive", "--no-random-sleep-on-renew", *folders], place.output)
    if "No renewals were attempted" not in place.output.read_text("utf-8"):
        fail("certbot renew did not say that there was nothing to renew")
    shutil.rmtree(home / "logs", ignore_errors=True)
    return ran


if __name__ == "__main__":
    main(measure, __doc__)
