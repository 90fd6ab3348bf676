"""A Prefect server and worker on this machine: `make up` starts and deploys, `make down` stops exactly those.

Everything lands below the home folder (CRPS_OUTCOMES_HOME, else build), readable by its owner only: database, logs,
process ids, and a credential without which the server answers nobody.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from crps_outcomes import settings
from crps_outcomes.home import Home, private_folder
from crps_outcomes.orchestration import answers

ROOT = Path(__file__).resolve().parents[1]
PREFECT = Path(sys.executable).with_name("prefect")
PORT = int(os.environ.get("CRPS_OUTCOMES_PORT", "4242"))
POOL = "crps-process"
AUTOMATION = "crash-runs-without-heartbeat"
START_SECONDS, STOP_SECONDS = 180, 30


def up(folder: Path) -> None:
    """Start the server, create the work pool, deploy prefect.yaml, start a worker."""
    if running(folder, "server"):
        stop(f"already up, see {folder / 'env'}; stop it first with: make down")
    if answers(f"http://127.0.0.1:{PORT}/api/health"):
        stop(f"port {PORT} is taken by another server; name a free one: CRPS_OUTCOMES_PORT=4343 make up")
    environment = environment_of(folder)
    try:
        start(folder, "server", ["server", "start", "--host", "127.0.0.1", "--port", str(PORT)], environment)
        wait(folder)
        prefect("work-pool", "create", POOL, "--type", "process", "--overwrite", environment=environment)
        prefect("--no-prompt", "deploy", "--all", environment=environment)
        automate(environment)
        start(folder, "worker", ["worker", "start", "--pool", POOL], environment)
    except BaseException:
        down(folder)
        raise
    tell(folder)


def automate(environment: dict[str, str]) -> None:
    """Set up what calls a run crashed whose process is gone, unless it is there: the database outlives `make down`."""
    command = [PREFECT, "automation", "inspect", AUTOMATION]
    known = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)  # noqa: S603
    if known.returncode:
        prefect("automation", "create", "--from-file", "flows/automations.yaml", environment=environment)


def down(folder: Path) -> None:
    """Stop worker and server, in this order, if they are the ones that `up` started."""
    for name in ("worker", "server"):
        pid = running(folder, name)
        if pid is not None:
            end(pid)
            sys.stderr.write(f"{name} stopped\n")
        pid_file(folder, name).unlink(missing_ok=True)


def environment_of(folder: Path) -> dict[str, str]:
    """The environment for server, worker and whoever talks to them; its own part is written to ``env``."""
    credential = f"local:{secrets.token_urlsafe(24)}"
    own = {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api",
        "PREFECT_API_AUTH_STRING": credential,
        "PREFECT_SERVER_API_AUTH_STRING": credential,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "DO_NOT_TRACK": "1",
        "PROJECT_ROOT": str(ROOT),
    }
    text = "".join(f"export {name}='{value}'\n" for name, value in own.items())
    (folder / "env").write_text(text, encoding="utf-8")
    return {**os.environ, **own, settings.HOME: str(folder.parent)}


def start(folder: Path, name: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Start a process of its own session, and note its id with the moment it started."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program and arguments
            [PREFECT, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid_file(folder, name).write_text(f"{process.pid} {started_at(process.pid)}", encoding="utf-8")


def running(folder: Path, name: str) -> int | None:
    """The id of the process `up` started, if it still runs; an id that the system gave to another one is not it."""
    try:
        pid, moment = pid_file(folder, name).read_text(encoding="utf-8").split(" ", 1)
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if moment and started_at(int(pid)) == moment else None


def started_at(pid: int) -> str:
    """When a process started, as the system writes it; "" if there is none, or only its remains."""
    if Path("/proc/self/stat").exists():
        return _started_by_proc(Path(f"/proc/{pid}/stat"))
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    state, _, moment = asked.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else moment.strip()


def _started_by_proc(status: Path) -> str:
    try:
        fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return "" if fields[0] == "Z" else f"{boot} {fields[19]}"


def end(pid: int) -> None:
    """Ask a process to stop, and wait; it and its children are killed only if it does not."""
    os.kill(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + STOP_SECONDS
    while started_at(pid):
        if time.monotonic() > give_up_at:
            os.killpg(pid, signal.SIGKILL)
            return
        time.sleep(0.2)


def wait(folder: Path) -> None:
    """Return when the server answers; stop when it died or takes longer than three minutes."""
    give_up_at = time.monotonic() + START_SECONDS
    while not answers(f"http://127.0.0.1:{PORT}/api/health"):
        if running(folder, "server") is None or time.monotonic() > give_up_at:
            stop(f"the Prefect server does not start; why stands in {folder / 'server.log'}")
        time.sleep(0.3)


def prefect(*arguments: str, environment: dict[str, str]) -> None:
    """Run one Prefect command; its output is shown only if it fails."""
    done = subprocess.run(  # noqa: S603 - our own program and arguments
        [PREFECT, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        stop(f"prefect {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def tell(folder: Path) -> None:
    """Say what is up and how to use it."""
    sys.stdout.write(
        f"Prefect is up at http://127.0.0.1:{PORT}; user and password stand in {folder / 'env'}\n"
        f"  source {folder / 'env'}\n"
        "  .venv/bin/prefect deployment run outcomes-report/on-demand --watch\n"
        "  make down\n"
    )


def pid_file(folder: Path, name: str) -> Path:
    """Where a process id is noted."""
    return folder / f"{name}.pid"


def stop(message: str) -> None:
    """End with a message."""
    sys.stderr.write(f"{message}\n")
    raise SystemExit(1)


if __name__ == "__main__":
    os.umask(0o077)
    HOME = Home.at(settings.home(os.environ))
    # Apart from the folder that single runs use: two servers never share a database.
    {"up": up, "down": down}[sys.argv[1]](private_folder(HOME.root / "server"))
