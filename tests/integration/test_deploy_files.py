"""The rest of deploy/: configuration, container, Kubernetes and the guide, held to what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cdrsync.config import KEYS, Inputs, read
from cdrsync.store.schema.tables import metadata
from tests.support import manual
from tests.support.confinement import directives
from tests.support.deployed import filled
from tests.support.tools import program

if TYPE_CHECKING:
    from tests.support.servers import Servers

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLE = DEPLOY / "cdrsync.example.toml"
DOCKERFILE = (DEPLOY / "container/Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())
GUIDE = (DEPLOY / "README.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / f"kubernetes/{name}.yaml").read_text())
    return loaded


class TestExample:
    """cdrsync.example.toml explains every key and shows its default."""

    def test_is_valid_as_it_stands(self) -> None:
        found = read(Inputs(config=EXAMPLE, environ={"CDRSYNC_PASSWORD": "x", "CDRSYNC_VKEY": "y"}))
        assert found.problems == []
        assert [account.name for account in found.settings(credentials=True).accounts] == ["default"]

    def test_shows_every_key_with_its_default(self, tmp_path: Path) -> None:
        before_accounts = EXAMPLE.read_text().split("#[accounts.sales]")[0]
        shown = dict(re.findall(r"(?m)^#?([a-z_]+) = (.+)$", before_accounts))
        names = {name.removesuffix("_file") for name in shown}
        assert names == set(KEYS)
        lines = [f"{key} = {value}" for key, value in shown.items() if not key.endswith("_file")]
        written = tmp_path / "written.toml"
        written.write_text("\n".join(lines))
        found = read(Inputs(config=written, environ={}))
        assert found.problems == []
        values = {**found.shared, **found.accounts["default"]}
        differing = {name for name, value in values.items() if value.value != KEYS[name].default}
        assert differing == {"username"}

    def test_is_valid_with_every_line_in_use(self, tmp_path: Path) -> None:
        lines = re.sub(r"(?m)^#(?=[a-z_]+ = |\[|$)", "", EXAMPLE.read_text())
        (tmp_path / "credentials").mkdir()
        for secret in ("password", "vkey"):
            (tmp_path / "credentials" / secret).write_text("x")
        written = tmp_path / "cdrsync.toml"
        written.write_text(lines)
        found = read(Inputs(config=written, environ={}))
        assert found.problems == []
        assert list(found.accounts) == ["sales", "support"]


class TestDockerfile:
    """Small, unprivileged, nothing to build with in it."""

    final = DOCKERFILE.split("\nFROM ")[-1]

    def test_runs_unprivileged_by_number(self) -> None:
        """By number: Kubernetes can't tell from a name that it is not root."""
        assert re.findall(r"(?m)^USER (.+)$", DOCKERFILE) == ["65532:65532"]

    def test_every_base_is_named_by_digest(self) -> None:
        """A tag may mean other bytes tomorrow; the tag beside it says what the digest was."""
        assert re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) == ["python:${PYTHON}"] * 2
        (base,) = re.findall(r"(?m)^ARG PYTHON=(.+)$", DOCKERFILE)
        assert re.fullmatch(r"3\.13-slim-trixie@sha256:[0-9a-f]{64}", base)

    def test_final_stage_builds_nothing_and_holds_no_installer(self) -> None:
        runs = re.findall(r"(?m)^RUN (.+)$", self.final)
        assert runs == ["python -m pip uninstall --yes --root-user-action=ignore pip"]
        assert "pip uninstall --yes pip" in DOCKERFILE.split("\nFROM ")[0] + DOCKERFILE.split("\nFROM ")[1]

    def test_is_watched_by_its_own_healthcheck(self) -> None:
        assert 'CMD ["cdrsync", "healthcheck"]' in self.final

    def test_carries_the_labels_of_the_standard(self) -> None:
        labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", self.final))
        assert labels == {"title", "description", "licenses", "version", "revision"}
        assert f"ARG VERSION={VERSION}\n" in self.final

    def test_sees_only_what_it_copies(self) -> None:
        copied = {path for line in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE) for path in line.split()}
        ignored = (DEPLOY / "container/Dockerfile.dockerignore").read_text().splitlines()
        assert {line[1:] for line in ignored if line.startswith("!")} == copied
        assert ignored[1] == "*"
        assert [path for path in copied if not (ROOT / path).exists()] == []


class TestCompose:
    """One command brings up five things, on the loopback only."""

    def test_has_everything(self) -> None:
        assert set(COMPOSE["services"]) == {"postgres", "sandbox", "cdrsync", "prometheus", "grafana"}

    def test_every_image_has_a_version(self) -> None:
        images = [service["image"] for service in COMPOSE["services"].values()]
        assert [image for image in images if not re.search(r":v?\d+\.\d+", image)] == []
        assert COMPOSE["services"]["cdrsync"]["image"] == f"cdrsync:{VERSION}"

    def test_listens_on_the_loopback_only(self) -> None:
        ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
        assert [port for port in ports if not port.startswith("127.0.0.1:")] == []

    @pytest.mark.parametrize("name", ["cdrsync", "sandbox"])
    def test_ours_may_do_little(self, name: str) -> None:
        service = COMPOSE["services"][name]
        assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (
            True,
            ["ALL"],
            ["no-new-privileges:true"],
        )

    def test_configuration_is_valid_and_the_sandbox_knows_the_login(self) -> None:
        environ = COMPOSE["services"]["cdrsync"]["environment"]
        settings = read(Inputs(environ={**environ, "CDRSYNC_CONFIG": str(EXAMPLE)})).settings(credentials=True)
        account = settings.accounts[0]
        # In a process of its own: in this one the suite has put its own login in the place of the demo's.
        known = subprocess.run(
            [sys.executable, "-c", "from cdrsync.sandbox import DEMO_LOGIN; print(*DEMO_LOGIN)"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
        assert [account.username, account.password, account.vkey] == known.stdout.split()

    def test_every_mounted_file_is_there(self) -> None:
        mounted = [
            volume.split(":")[0]
            for service in COMPOSE["services"].values()
            for volume in service.get("volumes", ())
            if volume.startswith(".")
        ]
        assert len(mounted) == 5
        assert [path for path in mounted if not (DEPLOY / "container" / path).exists()] == []

    def test_prometheus_finds_cdrsync(self) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        assert config["scrape_configs"][0]["static_configs"][0]["targets"] == ["cdrsync:9810"]
        assert COMPOSE["services"]["sandbox"]["networks"]["default"]["aliases"] == ["cdrsync"]
        assert COMPOSE["services"]["cdrsync"]["network_mode"] == "service:sandbox"


class TestKubernetes:
    """The "restricted" pod standard, field by field."""

    pod = manifest("deployment")["spec"]["template"]["spec"]

    def test_namespace_enforces_the_standard(self) -> None:
        labels = manifest("namespace")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_pod_is_restricted(self) -> None:
        context = self.pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["seccompProfile"]) == (
            True,
            65532,
            {"type": "RuntimeDefault"},
        )
        assert [name for name in self.pod if name.startswith("host")] == []
        assert {kind for volume in self.pod["volumes"] for kind in volume if kind != "name"} <= {
            "configMap",
            "secret",
            "emptyDir",
        }
        assert self.pod["automountServiceAccountToken"] is False

    def test_every_container_is_restricted(self) -> None:
        for container in self.pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["image"] == f"cdrsync:{VERSION}"
            assert "memory" in container["resources"]["limits"]

    def test_probes_ask_what_the_program_answers(self) -> None:
        container = self.pod["containers"][0]
        paths = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
        assert paths == ["/livez", "/readyz"]

    def test_replicas_share_and_never_go_all_at_once(self) -> None:
        """A rolling update, and a budget for drained nodes; a replica that stands by is ready."""
        spec, budget = manifest("deployment")["spec"], manifest("poddisruptionbudget")["spec"]
        assert (spec["replicas"], spec["strategy"]["type"], budget["maxUnavailable"]) == (2, "RollingUpdate", 1)
        assert budget["selector"] == spec["selector"]

    def test_page_is_reachable_when_not_ready(self) -> None:
        assert manifest("service")["spec"]["publishNotReadyAddresses"] is True

    def test_labels_agree(self) -> None:
        wanted = {"app.kubernetes.io/name": "cdrsync"}
        deployment = manifest("deployment")
        assert deployment["spec"]["selector"]["matchLabels"] == wanted
        assert deployment["spec"]["template"]["metadata"]["labels"] == wanted
        assert manifest("service")["spec"]["selector"] == wanted
        assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"] == wanted

    def test_goes_out_to_named_places_only(self) -> None:
        """Name servers, the operator, the database, each by an address that is nobody's until filled in."""
        rules = manifest("networkpolicy")["spec"]["egress"]
        assert [[port["port"] for port in rule["ports"]] for rule in rules] == [[53, 53], [443], [5432]]
        assert "namespaceSelector" in rules[0]["to"][0]
        blocks = [place["ipBlock"]["cidr"] for rule in rules[1:] for place in rule["to"]]
        assert blocks == ["192.0.2.1/32", "198.51.100.1/32"]  # RFC 5737: for documentation

    def test_image_has_a_version(self) -> None:
        assert re.search(rf":{re.escape(VERSION)}$|@sha256:[0-9a-f]{{64}}$", self.pod["containers"][0]["image"])

    def test_kustomization_names_files_that_are_there(self) -> None:
        made = manifest("kustomization")
        names = [*made["resources"], *made["configMapGenerator"][0]["files"]]
        assert [name for name in names if not (DEPLOY / "kubernetes" / name).exists()] == []

    def test_configuration_is_valid_with_the_secret(self, tmp_path: Path) -> None:
        for key in ("password", "vkey"):
            (tmp_path / key).write_text("x")
        (tmp_path / "database_url").write_text("postgresql+psycopg://u@db/x\n")
        environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
        found = read(Inputs(config=DEPLOY / "kubernetes/cdrsync.toml", environ=environ))
        assert found.problems == []
        settings = found.settings(credentials=True)
        assert settings.database_url == "postgresql+psycopg://u@db/x"
        assert str(settings.http_listen) == "0.0.0.0:9810"


class TestGuide:
    """deploy/README.md."""

    def test_links_lead_somewhere(self) -> None:
        headings = {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", GUIDE)
        }
        assert [anchor for anchor in re.findall(r"\]\(#([\w-]+)\)", GUIDE) if anchor not in headings] == []

    def test_files_it_names_are_there(self) -> None:
        named = set(re.findall(r"\bdeploy/[\w./-]+\w", GUIDE))
        assert [path for path in named if not (ROOT / path).exists()] == []

    def test_names_every_secret_key(self) -> None:
        secrets = GUIDE.split("## Secrets")[1]
        assert [name for name, key in KEYS.items() if key.secret and f"`{name}`" not in secrets] == []

    def test_move_names_every_table(self) -> None:
        move = GUIDE.split("## Moving to another database")[1].split("\n## ")[0]
        assert [table for table in metadata.tables if f"`{table}`" not in move] == []

    def test_numbers_go_on_after_a_move(self, servers: Servers) -> None:
        """A copy of rows leaves PostgreSQL's counters behind; with the guide's SQL no number is given twice."""
        import psycopg

        server = servers.get("postgresql")
        url = server.create()
        filled(url)
        (statements,) = re.findall(r"(?s)```sql\n(.*?)```", GUIDE.split("## Moving to another database")[1])
        counted = [n for n, table in metadata.tables.items() if "id" in table.c and table.c.id.type.python_type is int]
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            for name in counted:
                connection.execute(f"ALTER SEQUENCE {name}_id_seq RESTART".encode())
            for statement in statements.strip().splitlines():
                connection.execute(statement.encode())
            for name in counted:
                asked = f"SELECT nextval('{name}_id_seq'), (SELECT COALESCE(MAX(id), 0) + 1 FROM {name})"
                found = connection.execute(asked.encode()).fetchone()
                assert found is not None
                assert found[0] == found[1], name
        server.drop(url)

    def test_commands_by_hand_run_as_the_unit_does(self) -> None:
        """Each property of the guide's systemd-run is the unit's own, and no secret of the unit is left out."""
        unit = directives(DEPLOY / "systemd/cdrsync.service")
        given = re.findall(r"-p (\w+)=(\S+)", GUIDE.split("systemd-run")[1].split('"$@"')[0])
        same = [(name, value) for name, value in given if name not in ("User", "WorkingDirectory")]
        assert [(name, value) for name, value in same if value not in unit[name]] == []
        assert [value for name, value in same if name == "LoadCredential"] == unit["LoadCredential"]
        assert ("WorkingDirectory", "/var/lib/cdrsync") in given
        assert "CDRSYNC_CONFIG=/etc/cdrsync/cdrsync.toml" in unit["Environment"]


class TestManual:
    """deploy/man/cdrsync.1."""

    def test_says_what_the_program_says(self) -> None:
        """Where it does not: `python -m tests.support.manual > deploy/man/cdrsync.1` mends it."""
        assert (DEPLOY / "man/cdrsync.1").read_text() == manual.page()

    def test_man_shows_it(self) -> None:
        shown = subprocess.run(
            [program("groff"), "-Tutf8", "-P-cbou", "-Kutf8", "-man", "-ww", DEPLOY / "man/cdrsync.1"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stderr == ""
        words = " ".join(shown.stdout.split())
        assert [key for key in KEYS if key not in words] == []


def test_no_yaml_of_ours_is_broken() -> None:
    for file in DEPLOY.rglob("*.y*ml"):
        assert list(yaml.safe_load_all(file.read_text())), file
