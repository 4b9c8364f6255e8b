"""Nothing in the tree unpickles, evaluates text, asks a shell, or installs; licences permit use."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for f in ("python", "tools", "benchmarks") for p in (ROOT / f).rglob("*.py"))

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "telnetlib"}
CALLS = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__"), "runs text"),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput"), "asks a shell"),
    **dict.fromkeys(("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"), "YAML"),
    **dict.fromkeys(("tempfile.mktemp",), "a name that another may take"),
    **dict.fromkeys(("torch.hub.load", "urllib.request.urlopen", "requests.get"), "downloads"),
}
METHODS = {"extractall": "unpacks what it is given"}
COLLECTIVES = re.compile(r"(all_gather|broadcast|gather|scatter|send|recv)_object(_list)?")


def dotted(node: ast.expr) -> str:
    """``a.b.c``, or what is known of it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and reason of everything that is forbidden."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
            if isinstance(node, ast.Call):
                yield from ((node.lineno, reason) for reason in call_faults(node))
        yield from (
            (node.lineno, f"imports {name}")
            for name in names
            if name.partition(".")[0] in MODULES and hasattr(node, "lineno")
        )


def call_faults(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func)
    words = {k.arg: k.value for k in call.keywords}
    if name in CALLS:
        yield f"{name}: {CALLS[name]}"
    if name.rpartition(".")[2] in METHODS and "." in name:
        yield f"{name}: {METHODS[name.rpartition('.')[2]]}"
    if COLLECTIVES.fullmatch(name.rpartition(".")[2]):
        yield f"{name}: torch pickles objects"
    if name == "torch.load" and not is_true(words.get("weights_only")):
        yield "torch.load without weights_only=True"
    for word in ("shell", "allow_pickle"):
        if word in words and not is_false(words[word]):
            yield f"{name}: {word}"
    texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant)]
    if name.startswith(("subprocess.", "os.exec", "os.spawn")) and "pip" in texts:
        yield f"{name}: installs while it runs"


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_forbidden_is_called(source: Path) -> None:
    found = list(faults(ast.parse(source.read_text(encoding="utf-8"))))
    if source.name == "bootstrap.py":  # its purpose, told in its first line
        found = [f for f in found if not f[1].endswith(("installs while it runs", "downloads"))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "eval(x)",
        "exec('1')",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run(a, shell=b)",
        "yaml.load(x)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "tarfile.open(x).extractall(y)",
        "dist.all_gather_object(a, b)",
        "subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])",
    ],
)
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert list(faults(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "yaml.safe_load(x)",
        "torch.load(x, weights_only=True)",
        "subprocess.run(['ls'])",
        "np.load(x)",
    ],
)
def test_and_nothing_else(text: str) -> None:
    assert list(faults(ast.parse(text))) == []


# Licences of what a plain installation brings along.

COPYLEFT = re.compile(r"\b(A?GPL|GNU (AFFERO )?GENERAL PUBLIC)", re.IGNORECASE)
WEAKER = re.compile(
    r"\bL(ESSER|GPL)\b|LESSER GENERAL|WITH GCC-EXCEPTION|GCC RUNTIME", re.IGNORECASE
)


def licence_of(name: str) -> str:
    """As a distribution states it: an SPDX expression, classifiers, or a short text."""
    meta = importlib.metadata.metadata(name)
    if expression := meta.get_all("License-Expression"):
        return str(expression[0])
    classes = [c for c in meta.get_all("Classifier") or [] if c.startswith("License")]
    return "; ".join(classes) or str((meta.get_all("License") or [""])[0]).partition("\n")[0]


def needed(names: list[str]) -> set[str]:
    """Distributions that are installed because of ``names``, these included."""
    found: set[str] = set()
    ahead = list(names)
    while ahead:
        name = re.sub(r"[-_.]+", "-", ahead.pop()).lower()
        if name in found:
            continue
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform, or an extra of somebody's
        found.add(name)
        for text in requires:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                ahead.append(wanted.name)
    return found


def declared() -> list[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["export"], *extras["edge"], *extras["sim"]]
    return [Requirement(text).name for text in texts]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="reads TOML with the standard library")
def test_what_is_installed_may_be_used_in_anything() -> None:
    stated = {name: licence_of(name) for name in sorted(needed(declared()))}
    assert len(stated) >= 10
    assert [n for n, text in stated.items() if not text] == []
    strict = {n: t for n, t in stated.items() if COPYLEFT.search(t) and not permitted(t)}
    assert strict == {}


def permitted(text: str) -> bool:
    """A weaker copyleft, or one of several licences to choose from."""
    if WEAKER.search(text):
        return True
    choices = re.split(r"\bOR\b|;", text)
    return any(choice.strip() and not COPYLEFT.search(choice) for choice in choices)


@pytest.mark.parametrize(
    ("text", "fine"),
    [("GPL-3.0-only", False), ("AGPL-3.0-or-later", False), ("EPL-2.0 OR GPL-2.0", True)],
)
def test_copyleft_is_told_apart(text: str, fine: bool) -> None:
    assert bool(COPYLEFT.search(text)) != fine or permitted(text) == fine
