"""The style and the script of a page, each joined from its files."""

import re
from importlib import resources

_FILES = resources.files("forecaster.views.page")
_STYLE_NOISE = re.compile(r"/\*.*?\*/\s*|^\s+", re.DOTALL | re.MULTILINE)
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
# No text in the sources spans lines, so a line always begins with code.
_SCRIPT_NOISE = re.compile(r"/\*\*.*?\*/\s*|^\s*//[^\n]*\n|^\s+|^export ", re.DOTALL | re.MULTILINE)


def style(*names: str) -> str:
    """Join the style sheets, without comments and indentation."""
    return "".join(_STYLE_NOISE.sub("", read(name)) for name in names)


def script(entry: str) -> str:
    """Join the module and all that it imports into one script: each once, after those that it needs.

    Modules share one scope: a name at the top of one must not be in another.
    """
    modules: dict[str, str] = {}
    _add(entry, modules)
    return f'\n"use strict";\n(() => {{\n{"".join(modules.values())}}})();\n'


def _add(name: str, modules: dict[str, str]) -> None:
    if name in modules:
        return
    source = read(f"script/{name}")
    for needed in _IMPORT.findall(source):
        _add(needed, modules)
    modules[name] = _SCRIPT_NOISE.sub("", _IMPORT.sub("", source))


def read(name: str) -> str:
    """Read a file of the page."""
    return _FILES.joinpath(name).read_text("utf-8")
