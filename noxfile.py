"""Every check of the project: ``nox`` runs those that must pass, ``nox -l`` lists them all."""

import shutil
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
DEV = {
    Requirement(text).name: text for text in PYPROJECT["project"]["optional-dependencies"]["dev"]
}
TEST_TOOLS = ("hypothesis", "pytest", "pytest-randomly")

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = [
    "lint",
    "types",
    f"tests_core-{HERE}",
    f"tests-{HERE}",
    "schedules",
    "wheel",
    "docs",
    "coverage",
]


def install(session: nox.Session, *what: str, tools: tuple[str, ...] = ()) -> None:
    """Install parts of this project and some of the tools that its extra ``dev`` names."""
    session.install("-c", "constraints.txt", *what, *(DEV[tool] for tool in tools))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, layers and the docstrings of public names."""
    install(session, tools=("import-linter", "interrogate", "ruff"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("interrogate", "modelserve")


@nox.session
def types(session: nox.Session) -> None:
    """Check types under two checkers, the public API's inferred ones included."""
    install(session, "-e", ".", tools=("mypy", "pyright", "types-cachetools"))
    session.run("mypy")
    session.run("pyright")


def run_tests(session: nox.Session, *what: str) -> None:
    """Run tests and documentation under coverage, into a data file of the session's own."""
    install(session, *what, tools=("coverage", "sybil", *TEST_TOOLS))
    data = f".coverage.{session.name}"
    for stale in Path().glob(f"{data}*"):
        stale.unlink()
    session.run("coverage", "run", "-m", "pytest", *session.posargs, env={"COVERAGE_FILE": data})


@nox.session(python=PYTHONS)
def tests_core(session: nox.Session) -> None:
    """Run the tests with the core dependencies alone."""
    run_tests(session, "-e", ".")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests with every extra."""
    run_tests(session, "-e", ".[all,examples]", DEV["xgboost-cpu"], DEV["transformers"])


@nox.session
def schedules(session: nox.Session) -> None:
    """Explore many schedules of the batcher, and a storm of requests on real threads."""
    install(session, "-e", ".", tools=TEST_TOOLS)
    session.run("python", "-m", "tests.schedules", *(session.posargs or ("--count", "50000")))
    session.run("python", "-m", "tests.storm", "--requests", "200000")


@nox.session
def mutants(session: nox.Session) -> None:
    """Seed bugs into copies of the batcher, one at a time: the tests must catch each."""
    install(session, "-e", ".[onnx,torch]", tools=TEST_TOOLS)
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(reuse_venv=False)  # pip would keep an older wheel of the same version
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it, and test it where the source cannot be imported."""
    tmp = Path(session.create_tmp())
    shutil.rmtree(tmp)
    tmp.mkdir()
    session.run("pip", "wheel", "-c", "constraints.txt", "--no-deps", "--wheel-dir", str(tmp), ".")
    (built,) = tmp.glob("*.whl")
    install(session, f"{built}[onnx]", tools=TEST_TOOLS)
    for folder in ("benchmarks", "examples", "tests"):
        shutil.copytree(folder, tmp / folder)
    shutil.copy("pyproject.toml", tmp)
    session.chdir(tmp)
    session.run("pytest", "tests", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session, "-e", ".", tools=("furo", "myst-parser", "sphinx"))
    session.run("sphinx-build", "-q", "-W", "--keep-going", "docs", "docs/_build")


@nox.session
def coverage(session: nox.Session) -> None:
    """Unite what the test sessions covered; every line and branch must be."""
    install(session, tools=("coverage",))
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def bench(session: nox.Session) -> None:
    """Run every benchmark, briefly."""
    install(session, "-e", ".[onnx]")
    for script in sorted(Path("benchmarks").glob("[!_]*.py")):
        session.run("python", str(script), "--quick", *session.posargs)
