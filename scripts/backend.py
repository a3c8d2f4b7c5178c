"""The build backend: setuptools, from a clean folder, so that no module of a former build gets into a wheel."""

import shutil

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 (the other hooks)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Build a wheel without what a former `build/` holds, and leave no `build/` behind."""
    shutil.rmtree("build", ignore_errors=True)
    try:
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    finally:
        shutil.rmtree("build", ignore_errors=True)
