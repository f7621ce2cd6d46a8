"""The shape of the code base: who imports whom, what is generated, how large things are."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["edge", "timer_service", "sharing_service", "connection_service", "runtime", "cli", "bench"]
SERVICES = ["timer_service", "sharing_service", "connection_service"]


def test_imports_go_in_the_direction_of_the_design() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout


def test_the_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    if not (ROOT / ".venv").exists():
        pytest.skip("proto/generate works in the checkout's own virtual environment")
    subprocess.run(["sh", "proto/generate", tmp_path], cwd=ROOT, check=True, capture_output=True, timeout=60)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*")}
    generated = [path for path in (ROOT / "proto").rglob("*_pb2*") if path.suffix in (".py", ".pyi")]
    kept = {path.relative_to(ROOT): path.read_text() for path in generated}
    assert fresh == kept


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    names = ["__main__", "config", "domain", "servicer", "store/contract", "store/sqlite", "store/mongo"]
    assert [name for name in names if not (ROOT / service / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("package", [*SERVICES, "edge"])
def test_a_main_file_only_wires(package: str) -> None:
    lines = (ROOT / package / "__main__.py").read_text().splitlines()
    assert len(lines) <= 80


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_grows_beyond_its_subject(package: str) -> None:
    long = {str(path): len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert {path: lines for path, lines in long.items() if lines > 600} == {}
