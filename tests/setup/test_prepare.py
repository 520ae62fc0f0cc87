"""Set-up of a working copy: stamps, fall-backs and the copied browser files."""

import json
import sys
from pathlib import Path

import pytest

from tradebot.setup import prepare

LOCKED = ("requirements.txt", "requirements-dev.txt", "requirements-assets.txt", "package-lock.json")
WRITES_NODE_MODULES = "import pathlib; pathlib.Path('node_modules').mkdir()"


@pytest.fixture
def node_modules(tmp_path: Path) -> Path:
    folder = tmp_path / "node_modules"
    for source in prepare.ASSETS.values():
        file = folder / source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content of " + source.encode())
    return folder


def test_assets_land_where_the_templates_look_and_leftovers_go(node_modules: Path, tmp_path: Path) -> None:
    vendor = tmp_path / "vendor"
    (vendor / "old").mkdir(parents=True)
    prepare.copy_assets(node_modules, vendor)
    assert {str(file.relative_to(vendor)) for file in vendor.rglob("*") if file.is_file()} == set(prepare.ASSETS)
    assert not (vendor / "old").exists()


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"a{}\n/*# sourceMappingURL=tabler.min.css.map */", b"a{}\n"),
        (b"go();\n//# sourceMappingURL=chart.js.map\n", b"go();\n\n"),
        (b"a{background:url(data:image/svg+xml,x)}", b"a{background:url(data:image/svg+xml,x)}"),
    ],
)
def test_dangling_source_map_names_are_cut(node_modules: Path, tmp_path: Path, content: bytes, kept: bytes) -> None:
    (node_modules / prepare.ASSETS["tabler/tabler.min.css"]).write_bytes(content)
    prepare.copy_assets(node_modules, tmp_path / "vendor")
    assert (tmp_path / "vendor/tabler/tabler.min.css").read_bytes() == kept


def test_a_failing_npm_is_followed_by_the_next_one(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "raise SystemExit(1)"]
    working = [sys.executable, "-c", WRITES_NODE_MODULES]
    assert prepare.fetch_node_modules(tmp_path, iter([broken, working])).is_dir()
    assert (tmp_path / "package-lock.json").is_file()


def test_without_a_working_npm_set_up_says_so(tmp_path: Path) -> None:
    with pytest.raises(prepare.SetupError, match="could not be installed"):
        prepare.fetch_node_modules(tmp_path, iter([["no-such-npm-here"]]))


def test_packages_are_left_alone_while_the_stamp_names_the_same_files(tmp_path: Path) -> None:
    """There is no Python in this environment, so anything but skipping would fail."""
    plain, dev = tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"
    plain.write_text("one")
    dev.write_text("two")
    stamp = tmp_path / prepare.STAMP
    stamp.write_text("".join(f"{file.name} {prepare.fingerprint(file)}\n" for file in (plain, dev)))
    prepare.install_packages(tmp_path, plain)
    prepare.install_packages(tmp_path, plain, dev)
    plain.write_text("changed")
    with pytest.raises(prepare.SetupError):
        prepare.install_packages(tmp_path, plain)
    assert not stamp.exists()


def test_a_folder_that_is_no_environment_is_never_removed(tmp_path: Path) -> None:
    precious = tmp_path / "venv" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("three years of work")
    with pytest.raises(prepare.SetupError, match="not a virtual environment"):
        prepare.make_venv(precious.parent)
    assert precious.exists()


def test_an_environment_whose_python_is_gone_is_not_usable(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(tmp_path / "gone")
    assert not prepare.is_usable(tmp_path)


def test_missing_venv_module_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(prepare.SetupError, match=r"apt-get install python3\.\d+-venv"):
        prepare.install_venv_package()


@pytest.mark.parametrize("name", LOCKED)
def test_lock_files_hold_no_download_addresses(name: str) -> None:
    text = (prepare.ROOT / name).read_text()
    assert '"resolved"' not in text
    assert "index-url" not in text
    assert "find-links" not in text


def test_every_browser_package_is_locked_by_checksum() -> None:
    packages = json.loads((prepare.ROOT / "package-lock.json").read_text())["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
