"""The rules of the house that no other tool checks."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from detach.config import override, preset

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "detach"
WRITTEN = (".py", ".pyi", ".cpp", ".cu", ".h", ".cmake", ".toml", ".yaml", ".md", ".txt", "")
FRAMEWORKS = ("torch", "ATen", "c10", "pybind11", "Python", "NvInfer", "onnxruntime", "opencv2")
LIGHT = ("detach", "detach.kernels", "detach.config", "detach.data", "detach.recipes")
MAY_IMPORT_CORE = {
    "kernels.py",
    "ops/contrast_cpu.py",
    "ops/contrast_cuda.py",
    "ops/contrast_pairs.py",
    "ops/dispatch.py",
    "ops/percentile.py",
}
MAY_IMPORT_CV2 = {
    "data/video.py",  # decodes
    "data/sphere_picture.py",  # draws and encodes
    "edge/live/capture.py",  # cameras
}
LINE_LIMIT = 400


def tracked() -> list[Path]:
    """Files under version control, or about to be; all files where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
        names = done.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        hidden = (".git", ".venv", "build", "__pycache__")
        files = (p.relative_to(ROOT) for p in ROOT.rglob("*"))
        names = [p.as_posix() for p in files if not set(p.parts) & set(hidden)]
    return sorted(p for name in names if (p := ROOT / name).is_file())


TEXTS = [p for p in tracked() if p.suffix in WRITTEN and "sample" not in p.parts]
SOURCES = [p for p in TEXTS if p.suffix in (".py", ".pyi", ".cpp", ".cu", ".h")]
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_in(module: Path) -> set[str]:
    """Full names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def equations_in(text: str) -> list[int]:
    """Numbers in "Eq. 5", "Eq. 5 and 6" or "Eq. 7 to 13"."""
    numbers: list[int] = []
    for group in re.findall(r"Eq\. (\d+(?:(?: and | to )\d+)?)", text):
        first, *last = (int(n) for n in re.findall(r"\d+", group))
        numbers += range(first, last[0] + 1) if last else [first]
    return numbers


def test_each_equation_is_written_once() -> None:
    tree = ast.parse((PACKAGE / "equations.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    docstrings = [ast.get_docstring(function) or "" for function in functions]
    heads = [docstring.partition(":")[0] for docstring in docstrings]
    named = [number for head in heads for number in equations_in(head)]
    assert Counter(named) == Counter(range(1, 14))
    assert named == sorted(named), "equations stand in the paper's order"


@pytest.mark.parametrize("source", SOURCES, ids=name_of)
def test_a_file_fits_in_one_sitting(source: Path) -> None:
    assert len(source.read_text().splitlines()) <= LINE_LIMIT


def test_the_core_includes_no_framework() -> None:
    core = [p for p in SOURCES if "csrc" in p.parts and not p.name.startswith("bindings")]
    assert core
    include = re.compile(rf'#\s*include\s*[<"]({"|".join(FRAMEWORKS)})')
    assert [name_of(p) for p in core if include.search(p.read_text())] == []


def test_only_entries_to_the_kernels_import_the_extension() -> None:
    importers = {name_of(m) for m in MODULES if "detach._C" in imported_in(m)}
    assert importers == {f"python/detach/{name}" for name in MAY_IMPORT_CORE}


def test_opencv_is_imported_only_where_pictures_are_made_or_read() -> None:
    importers = {m.relative_to(PACKAGE).as_posix() for m in MODULES if "cv2" in imported_in(m)}
    elsewhere = {m for m in importers - MAY_IMPORT_CV2 if not m.startswith("simulate/")}
    assert elsewhere == set()


def modules_below(package: str) -> list[str]:
    """All modules of a package, which may not exist yet."""
    found = sorted((PACKAGE / package).rglob("*.py"))
    dotted = [".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in found]
    return [f"detach.{name.removesuffix('.__init__')}" for name in dotted]


def test_recordings_kernels_and_the_edge_do_without_torch() -> None:
    modules = [*LIGHT, *modules_below("data"), *modules_below("edge")]
    program = f"import sys, {', '.join(modules)}\nprint('torch' in sys.modules)"
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "numpy", "cv2", "sklearn", "matplotlib", "tyro")
    program = f"import sys, detach\nprint([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("recipe", sorted((ROOT / "models").glob("*.yaml")), ids=name_of)
def test_every_recipe_is_a_configuration(recipe: Path) -> None:
    changes = yaml.safe_load(recipe.read_text())
    base = preset(changes.get("preset", "recommended"))
    assert override(base, changes) is not None


def test_no_path_of_somebodys_machine() -> None:
    path = re.compile(r"""(?<![\w.\-/$<{])/(?:work|home|root|opt|Users|mnt)/[\w.]""")
    found = [
        f"{name_of(text)}:{number}: {line.strip()}"
        for text in TEXTS
        for number, line in enumerate(text.read_text().splitlines(), 1)
        if path.search(line)
    ]
    assert found == []


def test_nothing_is_left_for_later() -> None:
    later = re.compile("TO" + "DO|FIX" + "ME|X" + "XX")
    assert [name_of(source) for source in SOURCES if later.search(source.read_text())] == []
