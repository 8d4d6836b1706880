import pytest

from tests.contract.calling import within_limit


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Give every check a limit, so that a bug fails rather than hangs."""
    names = pyfuncitem._fixtureinfo.argnames
    within_limit(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    return True
