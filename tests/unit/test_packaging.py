"""What is shipped: the distribution, the Makefile, the containers and the installer agree with the code."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("app", "indexing", "retrievers", "migrations")
# Extras that may be imported below the four packages; the others are tools.
RUNTIME_EXTRAS = ("cpu", "gpu", "gpu-cuvs", "postgres", "eval")


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "scripts" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shipped_files() -> set[str]:
    """Files of the four packages, caches left out."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def distribution_name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def third_party_imports() -> Iterator[tuple[str, str]]:
    """(file, top-level module) of every import in the four packages that is neither ours nor Python's."""
    for name in sorted(shipped_files()):
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top not in PACKAGES:
                    yield name, top


class TestDistribution:
    def test_extras(self, pyproject: dict) -> None:
        extras = pyproject["project"]["optional-dependencies"]
        assert {"cpu", "gpu", "gpu-cuvs", "postgres", "eval", "test"} <= extras.keys()

    def test_every_import_is_a_declared_dependency(self, pyproject: dict) -> None:
        project = pyproject["project"]
        declared = {distribution_name(requirement) for requirement in project["dependencies"]}
        for extra in RUNTIME_EXTRAS:
            declared |= {distribution_name(line) for line in project["optional-dependencies"][extra]}
        distributions = packages_distributions()
        undeclared = {
            (name, module)
            for name, module in third_party_imports()
            if not declared & {distribution_name(found) for found in distributions.get(module, [module])}
        }
        assert not undeclared

    def test_wheel_holds_the_packages_and_nothing_else(self, tmp_path: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        (wheel,) = tmp_path.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        entries = {name for name in names if ".dist-info/" not in name}
        assert entries == shipped_files()
        assert {"migrations/env.py", "migrations/script.py.mako"} <= entries
        assert any(name.endswith("licenses/LICENSE") for name in names)

    def test_command_starts_and_names_its_commands(self) -> None:
        result = subprocess.run(
            [str(Path(sys.executable).with_name("footnote")), "--help"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        for command in (
            "ingest",
            "search",
            "ask",
            "serve",
            "worker",
            "index",
            "documents",
            "jobs",
            "eval",
            "doctor",
        ):
            assert re.search(rf"\b{command}\b", result.stdout)


WITHOUT_EXTRAS = """
import sys
sys.modules.update(dict.fromkeys(OPTIONAL))  # None: cannot be imported
import app.cli, app.main, app.db.engine
app.db.engine.create_engine("sqlite:///footnote.db").connect().close()
"""


def test_the_plain_installation_starts_without_what_extras_bring(tmp_path: Path) -> None:
    optional = (
        "psycopg",
        "ir_measures",
        "reportlab",
        "docx",
        "pptx",
        "openpyxl",
        "bs4",
        "hypothesis",
        "pytest",
    )
    code = WITHOUT_EXTRAS.replace("OPTIONAL", repr(optional))
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def assert_accepted(arguments: list[str]) -> None:
    """The command line parses; nothing is run."""
    from app.cli import app

    group = typer.main.get_command(app)
    name, *rest = arguments
    group.commands[name].make_context(name, rest)  # type: ignore[attr-defined]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMakefile:
    def make(self, *arguments: str) -> str:
        result = subprocess.run(
            ["make", "--no-print-directory", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def test_default_lists_the_targets(self) -> None:
        listed = set(re.findall(r"^  make ([a-z]+)\s+\S", self.make(), flags=re.MULTILINE))
        assert {"install", "run", "test", "check", "bench", "faults", "clean"} <= listed

    def test_run_calls_a_command_line_that_exists(self) -> None:
        line = re.search(r"footnote (quickstart .*)", self.make("--dry-run", "run", "PORT=9000"))
        assert line is not None
        assert "--port 9000" in line[1]
        assert_accepted(line[1].split())

    def test_ci_runs_what_a_developer_runs(self) -> None:
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        text = script.read_text(encoding="utf-8")
        assert "set -euo pipefail" in text
        assert "make test" in text

    def test_tests_come_after_the_static_checks(self) -> None:
        steps = self.make("--dry-run", "test")
        order = [
            steps.index(tool)
            for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest")
        ]
        assert order == sorted(order)


class TestInstaller:
    def test_dependencies_are_those_of_the_project_and_its_extras(
        self, installer: ModuleType, pyproject: dict
    ) -> None:
        project = pyproject["project"]
        found = installer.dependencies(["cpu", "test"])
        assert set(project["dependencies"]) <= set(found)
        assert set(project["optional-dependencies"]["postgres"]) <= set(found), "test names postgres in turn"
        assert not [line for line in found if line.startswith("footnote")]
        assert len(found) == len(set(found))

    @pytest.mark.parametrize(
        ("version", "cuda", "refused"),
        [("2.13.0+cpu", "None", False), ("2.13.0+cu130", "'13.0'", True)],
        ids=["cpu", "cuda"],
    )
    def test_cuda_build_is_refused(
        self,
        installer: ModuleType,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        version: str,
        cuda: str,
        refused: bool,
    ) -> None:
        torch = tmp_path / "torch"
        torch.mkdir()
        (torch / "__init__.py").write_text("raise ImportError('is not to be imported')")
        (torch / "version.py").write_text(f"__version__ = '{version}'\ncuda = {cuda}\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert installer.inspect_torch(Path(sys.executable)).version == version
        if refused:
            with pytest.raises(installer.Refused, match=re.escape(version)):
                installer.require_cpu_build(Path(sys.executable))
        else:
            installer.require_cpu_build(Path(sys.executable))

    def test_nvidia_packages_are_refused(
        self, installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        information = tmp_path / "nvidia_cublas-13.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cublas\nVersion: 13.0\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(installer.Refused, match="nvidia-cublas"):
            installer.require_cpu_build(Path(sys.executable))

    def test_python_too_old_is_refused(self, installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installer.sys, "version_info", (3, 9, 2))
        with pytest.raises(installer.Refused, match=r"needs Python 3\.11 or newer.* is 3\.9"):
            installer.require_python()

    def test_python_without_ensurepip_is_refused(
        self, installer: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ensurepip", None)
        with pytest.raises(installer.Refused, match="python3-venv"):
            installer.require_python()


SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY", re.IGNORECASE)


class TestContainers:
    def test_compose_has_no_default_secrets(self, compose: dict) -> None:
        checked = 0
        for service in compose["services"].values():
            for name, value in service.get("environment", {}).items():
                if SECRET_NAME.search(name):
                    checked += 1
                    assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
                elif isinstance(value, str):
                    assert not re.search(r"://[^/@]*:[^/@]*@", value), f"{name} holds a password"
        assert checked >= 3

    @pytest.mark.parametrize("name", ["api", "worker"])
    def test_services_are_confined(self, compose: dict, name: str) -> None:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    @pytest.mark.parametrize("name", ["api", "worker"])
    def test_services_call_command_lines_that_exist(self, compose: dict, name: str) -> None:
        assert_accepted(compose["services"][name]["command"])

    def test_volumes_are_declared(self, compose: dict) -> None:
        used = {
            volume.split(":")[0]
            for service in compose["services"].values()
            for volume in service.get("volumes", [])
        }
        assert used == compose["volumes"].keys()

    def test_image_runs_as_a_user_without_rights(self) -> None:
        lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        users = [line.split()[1] for line in lines if line.startswith("USER ")]
        assert users
        assert users[-1].split(":")[0] not in {"root", "0"}
        assert not [line for line in lines if line.startswith(("ARG ", "ENV ")) and SECRET_NAME.search(line)]

    def test_image_is_built_from_what_the_wheel_holds(self) -> None:
        dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
        for package in PACKAGES:
            assert f"COPY {package} {package}" in dockerfile
            assert f"!{package}" in kept
