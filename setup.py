"""What pyproject.toml cannot say: a wheel also holds the notebooks and params that lie beside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithKit(build_py):
    """Puts `notebooks/` and `params/` into `wcse_lib/kit/` of a wheel; editable installs read them where they are."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for name in ("notebooks", "params"):
            target = Path(self.build_lib, "wcse_lib", "kit", name)
            no_traces = shutil.ignore_patterns(".*")
            shutil.copytree(name, target, dirs_exist_ok=True, ignore=no_traces)


setup(cmdclass={"build_py": BuildWithKit})
