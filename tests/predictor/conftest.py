import functools

import pytest

from tests.contract.calling import within_limit


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Give every test a limit, so that a bug fails rather than hangs."""
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    within_limit(functools.partial(pyfuncitem.obj, **given))
    return True
