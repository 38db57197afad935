"""Create a virtual environment of the checkout; does nothing if it is up to date.

Requires only the standard library of Python 3.9 or later. uv is taken from PATH, or installed into `.tools`.

    python3 tools/venv.py .venv 3.13 requirements-dev.lock

The environment contains exactly the packages of the lock (with hashes checked) and this project, editable. A stamp in
it holds a hash of all inputs, so a second run does nothing, and an interrupted run is repeated.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"


def uv() -> str:
    """Return the path of a working uv; install it if there is none."""
    own = TOOLS / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(own)):
        # A version manager's shim on PATH may fail.
        if candidate and Path(candidate).exists() and subprocess.call([candidate, "--version"], **QUIET) == 0:
            return candidate
    print(f"installing uv into {TOOLS.name}/", file=sys.stderr, flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(TOOLS)], **QUIET) == 0:
        subprocess.run([str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"], check=True)
    else:
        # A distribution may ship Python without venv, but with pip.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(TOOLS), "uv"]
        subprocess.run(command, check=True)
    return str(own)


def interpreter(uv_path: str, version: str) -> str:
    """Return the path of an installed Python of this version, or else the version, which makes uv download it."""
    search = subprocess.run(
        [uv_path, "python", "find", "--no-python-downloads", "--system", version],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if search.returncode == 0:
        return search.stdout.strip()
    # pyenv's shims offer only the active versions; this folder has all installed ones.
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    installed = sorted(Path(pyenv).glob(f"versions/{version}*/bin/python{version}"))
    return str(installed[-1]) if installed else version


def main(name: str, version: str, lock: str) -> None:
    """Bring an environment up to date.

    Args:
        name: Its folder in the checkout.
        version: Its Python version: ``3.13``.
        lock: The requirements file to install.
    """
    venv = ROOT / name
    stamp = venv / ".ledger-stamp"
    digest = hashlib.sha256(f"{ROOT}\n{version}\n".encode())
    for part in (lock, "pyproject.toml", "tools/venv.py"):
        digest.update((ROOT / part).read_bytes())
    wanted = digest.hexdigest()

    TOOLS.mkdir(exist_ok=True)
    # Of two concurrent runs the second waits and then finds the environment up to date.
    with open(ROOT / ".tools.lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        uv_path = uv()
        python = str(venv / "bin" / "python")
        if stamp.exists():
            stamp.unlink()
        has = (
            subprocess.run(
                [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=False,
            ).stdout.strip()
            if Path(python).exists()
            else ""
        )
        if has != version:
            subprocess.run(
                [uv_path, "venv", "--quiet", "--clear", "--python", interpreter(uv_path, version), str(venv)],
                cwd=ROOT,
                check=True,
            )
        print(f"setting up {name}/ from {lock}", flush=True)
        subprocess.run(
            [uv_path, "pip", "sync", "--quiet", "--python", python, "--require-hashes", lock],
            cwd=ROOT,
            check=True,
        )
        # Without build isolation, so that the build backend comes from the lock as well.
        subprocess.run(
            [
                uv_path,
                "pip",
                "install",
                "--quiet",
                "--python",
                python,
                "--no-deps",
                "--no-build-isolation",
                "--editable",
                ".",
            ],
            cwd=ROOT,
            check=True,
        )
        stamp.write_text(wanted)


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

if __name__ == "__main__":
    if sys.argv[1:] == ["uv"]:
        print(uv())
    else:
        main(*sys.argv[1:])
