"""Make one of the checkout's virtual environments, or do nothing when it is up to date.

Needs only the standard library of any Python 3.9 or later. uv is taken from PATH, else installed into `.tools`.

    python3 tools/venv.py .venv 3.13 requirements-dev.lock

The environment holds exactly the lock's packages (hashes checked) and this project, editable. A stamp inside it holds
the hash of all that went in, so a second run costs nothing, and a run that was cut off is done again.
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
    """The path of a uv that runs."""
    own = TOOLS / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(own)):
        # A version manager's shim may be on PATH and yet not run.
        if candidate and Path(candidate).exists() and subprocess.call([candidate, "--version"], **QUIET) == 0:
            return candidate
    print(f"installing uv into {TOOLS.name}/", file=sys.stderr, flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(TOOLS)], **QUIET) == 0:
        subprocess.run([str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"], check=True)
    else:
        # A distribution may ship Python without venv; its pip can still fill a folder.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(TOOLS), "uv"]
        subprocess.run(command, check=True)
    return str(own)


def interpreter(uv_path: str, version: str) -> str:
    """What to ask uv for: an installed Python of this version, else the version itself, which uv then fetches."""
    found = subprocess.run(
        [uv_path, "python", "find", "--no-python-downloads", "--system", version],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if found.returncode == 0:
        return found.stdout.strip()
    # pyenv answers only for the versions it has switched on; what it has installed lies here.
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    installed = sorted(Path(pyenv).glob(f"versions/{version}*/bin/python{version}"))
    return str(installed[-1]) if installed else version


def main(name: str, version: str, lock: str) -> None:
    venv = ROOT / name
    stamp = venv / ".ledger-stamp"
    digest = hashlib.sha256(f"{ROOT}\n{version}\n".encode())
    for part in (lock, "pyproject.toml", "tools/venv.py"):
        digest.update((ROOT / part).read_bytes())
    wanted = digest.hexdigest()

    TOOLS.mkdir(exist_ok=True)
    # Two `make` at once: the second waits, then finds the work done.
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
        # No build isolation: the build backend comes from the lock as well.
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
