"""Make a virtual environment with Footnote and the CPU build of PyTorch.

Plain `pip install` on Linux takes the CUDA build of PyTorch, several gigabytes that the default set-up never
uses. So PyTorch goes in first, as a CPU build, and a constraint file keeps every later pip run in this
environment from replacing it.

Runs on the standard library of any Python 3, so that it can say what is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
TORCH_VERSION = "2.13.0"
# The public index of CPU builds, asked only when the configured package indexes have none.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# Run inside the environment; prints a line for each field of Torch. Reads version.py without importing torch,
# which takes seconds.
INSPECT_TORCH = """
import importlib.metadata, importlib.util, pathlib, runpy
spec = importlib.util.find_spec("torch")
if spec is not None and spec.origin is not None:
    found = runpy.run_path(str(pathlib.Path(spec.origin).with_name("version.py")))
    print(found["__version__"])
    print(found["cuda"] or "")
    names = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    print(" ".join(sorted(name for name in names if name.startswith("nvidia-"))))
"""


class Torch(NamedTuple):
    """The PyTorch of an environment; `cuda` is empty for a CPU build."""

    version: str
    cuda: str
    nvidia_packages: str


class Refused(Exception):
    """Something the user can put right; the message says how."""


def main() -> int:
    options = parse_arguments()
    try:
        install(options)
    except Refused as exc:
        say(f"error: {exc}")
        return 1
    except subprocess.CalledProcessError as exc:
        say(f"error: a step of the installation failed (exit code {exc.returncode}); its output is above")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next run goes on from here")
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder of the environment")
    parser.add_argument("--extras", default="cpu,eval", help="optional dependencies, separated by commas")
    parser.add_argument(
        "--torch", choices=("cpu", "cuda"), default="cpu", help="cuda: whatever build pip takes, unchecked"
    )
    parser.add_argument(
        "--dependencies-only",
        action="store_true",
        help="leave out Footnote itself (cached layer of an image)",
    )
    return parser.parse_args()


def install(options: argparse.Namespace) -> None:
    require_python()
    python = make_environment(options.venv.absolute())
    if options.torch == "cpu":
        install_torch_cpu(python)
        constrain(python, options.venv.absolute())
    extras = [extra for extra in options.extras.split(",") if extra]
    if options.dependencies_only:
        say("Installing the dependencies")
        pip(python, *dependencies(extras))
    else:
        say("Installing Footnote and its dependencies")
        pip(python, "--editable", f"{ROOT}[{','.join(extras)}]")
    if options.torch == "cpu":
        require_cpu_build(python)


def require_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        found = ".".join(map(str, sys.version_info[:2]))
        raise Refused(
            f"Footnote needs Python {wanted} or newer; {sys.executable} is {found} (name another: PYTHON=…)"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise Refused(
            f"{sys.executable} cannot make virtual environments: it comes without `venv` or `ensurepip`. "
            "On Debian and Ubuntu: sudo apt install python3-venv"
        ) from None


def make_environment(folder: Path) -> Path:
    """The interpreter of the environment in `folder`; one that no longer starts is made anew."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not starts(python):
        say(f"Making the virtual environment {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    return python


def starts(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def install_torch_cpu(python: Path) -> None:
    """Nothing when PyTorch is there; else its CPU build, without dependencies (the next step brings them)."""
    if inspect_torch(python) is not None:
        return
    say(f"Installing PyTorch {TORCH_VERSION}, CPU build")
    if not sys.platform.startswith("linux"):
        pip(python, "--no-deps", f"torch=={TORCH_VERSION}")
        return
    # Only a CPU build carries this version, so nothing else can be taken by mistake.
    requirement = f"torch=={TORCH_VERSION}+cpu"
    try:
        pip(python, "--no-deps", requirement, stderr=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        say(f"Not in the configured package index; asking {TORCH_CPU_INDEX}")
        pip(python, "--no-deps", "--index-url", TORCH_CPU_INDEX, requirement)


def constrain(python: Path, folder: Path) -> None:
    """Let every later pip run in this environment keep the PyTorch that is there."""
    torch = inspect_torch(python)
    if torch is None:
        raise Refused("PyTorch was installed and cannot be found; remove the environment and install again")
    constraints = folder / "constraints.txt"
    constraints.write_text(f"torch=={torch.version}\n", encoding="utf-8")
    (folder / ("pip.ini" if os.name == "nt" else "pip.conf")).write_text(
        f"[install]\nconstraint = {constraints}\n", encoding="utf-8"
    )


def require_cpu_build(python: Path) -> None:
    torch = inspect_torch(python)
    if torch is not None and (torch.cuda or torch.nvidia_packages):
        found = f"PyTorch {torch.version} for CUDA {torch.cuda}" if torch.cuda else torch.nvidia_packages
        raise Refused(
            f"the environment holds {found}: gigabytes that the CPU set-up does not use. "
            "For a GPU pass FOOTNOTE_TORCH=cuda; else remove it (make distclean) and install again"
        )


def inspect_torch(python: Path) -> Torch | None:
    command = [str(python), "-c", INSPECT_TORCH]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Torch(*output.split("\n")[:3]) if output else None


def dependencies(extras: list[str]) -> list[str]:
    """What pyproject.toml asks for, extras that name other extras of Footnote resolved.

    >>> [line for line in dependencies(["cpu"]) if line.startswith("faiss")]
    ['faiss-cpu>=1.12']
    """
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = list(project["dependencies"])
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project['name']}\[(.+)]", requirement)
            if own is None:
                found.append(requirement)
            else:
                found += dependencies([name.strip() for name in own[1].split(",")])
    return list(dict.fromkeys(found))


def pip(python: Path, *arguments: str, stderr: int | None = None) -> None:
    # Modules are compiled when first imported, and most of what PyTorch and its like install never is.
    command = [str(python), "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    if not sys.stdout.isatty():
        command.append("--quiet")
    subprocess.run([*command, *arguments], check=True, stderr=stderr)


def say(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
