"""PostgreSQL as the deployment starts it: a role for each database, a backup, and its restoration.

Runs the deployment's scripts on a server of Debian's package, in a temporary folder. Needs root, as the container
does, since the server refuses to run as root and the passwords belong to another user. 5 s.
"""

import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.proof.steps import BACKUP, RESTORE

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAMS = next((str(path.parent) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS or os.geteuid() != 0, reason="needs Debian's postgresql and root"),
]


@dataclass
class Server:
    """A running server and the folder that stands for the container's root."""

    root: Path
    port: int

    def run(self, command: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command; without PGHOST in `options`, as in the server's container."""
        environment = {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "PGHOST": str(self.root),
            "PGPORT": str(self.port),
            **options,
        }
        return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)

    def query(self, statement: str, role: str = "postgres", database: str = "postgres") -> str:
        """Return the result of a statement: of the superuser by the socket, of a service by TCP and its password."""
        options = {}
        if role != "postgres":
            secret = (self.root / "secrets" / role / "password").read_text()
            options = {"PGHOST": "127.0.0.1", "PGPASSWORD": secret}
        done = self.run(f'psql -At -U {role} -d {database} -c "{statement}"', **options)
        return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()

    def script(self, name: str, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the deployment, whose folders are below this one."""
        return self.run(f"sh {self.placed(name)} {' '.join(arguments)}", **options)

    def placed(self, name: str) -> Path:
        """Return a copy of a file of the deployment with folders below this one in place of the container's."""
        copy = self.root / name
        copy.write_text(re.sub(r"/(secrets|tmp)/", rf"{self.root}/\1/", (DEPLOY / name).read_text()))
        copy.chmod(0o755)
        return copy


@pytest.fixture
def server() -> Iterator[Server]:
    # Not pytest's folder, which other users may not enter, and whose name is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="adc-") as folder:
        yield from serving(Path(folder))


def serving(tmp_path: Path) -> Iterator[Server]:
    for folder in ("tmp", "secrets/dagster", "secrets/mlflow", "bin", "backups", "files/artifacts", "files/state/work"):
        (tmp_path / folder).mkdir(parents=True)
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        made = Server(tmp_path, free.getsockname()[1])
    # The image's entrypoint, as deploy/proof/stand_ins.sh has it.
    (tmp_path / "bin" / "docker-entrypoint.sh").write_text('#!/bin/sh\ncat "$POSTGRES_PASSWORD_FILE"\n')
    (tmp_path / "bin" / "docker-entrypoint.sh").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{PROGRAMS}:{os.environ['PATH']}"
    started = made.script("postgres.sh", SECRET_OWNER="10001:10001", PATH=path)
    assert len(started.stdout) == 64, started.stderr
    data = tmp_path / "data"
    data.mkdir()
    shutil.chown(data, "postgres")
    shutil.chown(tmp_path, "postgres")

    def as_server(command: str) -> None:
        done = subprocess.run(
            [*("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"), "sh", "-c", command],
            env={"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    as_server(f"initdb --no-sync --username=postgres --auth-host=scram-sha-256 --auth-local=trust -D {data}")
    options = f"-F -p {made.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={tmp_path}"
    as_server(f"pg_ctl -w start -D {data} -l {data}/log -o '{options}'")
    try:
        create = made.placed("databases.sql")
        as_server(f"psql -q -v ON_ERROR_STOP=1 -h {tmp_path} -p {made.port} -U postgres -f {create}")
        yield made
    finally:
        as_server(f"pg_ctl -w stop -m immediate -D {data}")


def test_roles_a_backup_and_its_restoration(server: Server) -> None:
    privileged = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND (rolsuper OR rolcreatedb OR rolcreaterole)"
    assert server.query(privileged) == "postgres"
    for role, other in (("dagster", "mlflow"), ("mlflow", "dagster")):
        secret = server.root / "secrets" / role / "password"
        assert (secret.stat().st_uid, stat.S_IMODE(secret.stat().st_mode)) == (10001, 0o600)
        assert server.query(f"CREATE TABLE mine AS SELECT '{role}' AS name", role, role) == "SELECT 1"
        assert "permission denied for database" in server.query("SELECT 1", role, other)
        assert "permission denied for database" in server.query("SELECT 1", role, "postgres")
    assert "authentication failed" in server.run("psql -U postgres", PGHOST="127.0.0.1", PGPASSWORD="adc").stderr

    # What the service `backup` does.
    files = server.root / "files"
    (files / "artifacts" / "model").write_text("weights")
    (files / "state" / "work" / "checkpoint").write_text("left out")
    backups = server.root / "backups"
    options = {
        "PGHOST": "127.0.0.1",
        "BACKUP_HOURS": "24",
        "BACKUP_KEEP": "1",
        "BACKUPS": str(backups),
        "FILES": str(files),
        "SECRETS": f"{server.root}/secrets",
    }
    assert server.script("backup.sh", "check", **options).returncode != 0
    (backups / "2020-01-01T000000Z").mkdir()
    done = server.script("backup.sh", "once", **options)
    assert done.returncode == 0, done.stderr
    assert server.script("backup.sh", "check", **options).returncode == 0
    (made,) = backups.iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o600}
    listed = server.run(f"tar -tf {made / 'files.tar'}").stdout.split()
    assert "artifacts/model" in listed
    assert "state/work/checkpoint" not in listed

    # Both this backup and that of the documentation's command restore tables, owners and permissions.
    by_command = server.root / "databases-2.sql"
    assert server.run(f"set -e; {BACKUP}".replace("done", f"done > {by_command}")).returncode == 0
    for dump in (made / "databases.sql", by_command):
        for role in ("dagster", "mlflow"):
            server.query("DROP TABLE mine", role, role)
        restored = server.run(f"{RESTORE} < {dump}")
        assert restored.returncode == 0, restored.stderr
        for role, other in (("dagster", "mlflow"), ("mlflow", "dagster")):
            assert server.query("SELECT name FROM mine", role, role) == role
            assert server.query("ALTER TABLE mine ADD COLUMN more int", role, role) == "ALTER TABLE"
            assert "permission denied for database" in server.query("SELECT 1", role, other)


def test_a_deployment_with_a_single_role_is_given_to_the_roles(server: Server) -> None:
    page = (DEPLOY.parent / "docs" / "how-to" / "deploy.md").read_text()
    (program,) = re.findall(r"^awk '(.*)' databases.sql \|$", page, re.MULTILINE)
    server.query("CREATE ROLE adc SUPERUSER LOGIN")
    for role in ("dagster", "mlflow"):
        server.query(f"ALTER DATABASE {role} OWNER TO adc")
        server.query(f"CREATE TABLE mine AS SELECT '{role}' AS name; ALTER TABLE mine OWNER TO adc", database=role)
    dump = server.root / "databases.sql"
    backup = BACKUP.replace("-U postgres", "-U adc").replace("done", f"done > {dump}")
    assert server.run(backup).returncode == 0
    for role in ("dagster", "mlflow"):
        server.query(f"DROP DATABASE {role}")
    assert server.query("DROP ROLE adc") == "DROP ROLE"
    restored = server.run(f"awk '{program}' {dump} | {RESTORE}")
    assert restored.returncode == 0, restored.stderr
    assert not restored.stderr
    server.query("REVOKE ALL ON DATABASE dagster, mlflow FROM PUBLIC")
    for role, other in (("dagster", "mlflow"), ("mlflow", "dagster")):
        assert server.query("ALTER TABLE mine ADD COLUMN more int", role, role) == "ALTER TABLE"
        assert "permission denied for database" in server.query("SELECT 1", role, other)
