"""The interpreter to check is found as a shell would find it, and described from the files around it; nothing is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.errors import InputError
from diagnose.sources.interpreter import describe, find_interpreter, read_configuration
from tests.sources.environments import elf, environment, install, interpreter, site_of

# --- finding it


def test_an_environment_may_be_named_by_its_folder(tmp_path: Path) -> None:
    """`--python env` means the interpreter in it."""
    folder = environment(tmp_path)
    assert find_interpreter(str(folder), {}) == str(folder / "bin" / "python")


def test_the_path_of_the_link_is_kept(tmp_path: Path) -> None:
    """An environment's python is a link to another place; the link tells which environment is meant."""
    link = environment(tmp_path) / "bin" / "python3"
    assert find_interpreter(str(link), {}) == str(link)


def test_active_environments_go_before_the_path(tmp_path: Path) -> None:
    """$VIRTUAL_ENV first, then $CONDA_PREFIX, then python3 and python on $PATH."""
    venv, conda = environment(tmp_path, name="venv"), interpreter(tmp_path / "conda").parent.parent
    onpath = interpreter(tmp_path / "usr").parent
    environ = {"VIRTUAL_ENV": str(venv), "CONDA_PREFIX": str(conda), "PATH": f"/nonexistent:{onpath}"}
    assert find_interpreter(None, environ) == str(venv / "bin" / "python")
    del environ["VIRTUAL_ENV"]
    assert find_interpreter(None, environ) == str(conda / "bin" / "python3")
    del environ["CONDA_PREFIX"]
    assert find_interpreter(None, environ) == str(onpath / "python3")


def test_a_bare_name_is_looked_up_on_the_path(tmp_path: Path) -> None:
    """`--python python3.11` is found where the shell would find it."""
    path = interpreter(tmp_path / "usr")
    assert find_interpreter("python3.11", {"PATH": str(path.parent)}) == str(path)


def test_what_is_no_interpreter_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """A missing file, a folder without an interpreter, a text, another program, and a broken link each say what they are."""
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    program = tmp_path / "ls"
    program.write_bytes(elf(needed=["libc.so.6"], undefined=["puts"]))
    stump = tmp_path / "stump"
    stump.write_bytes(b"\x7fELF\x02\x01\x01")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.touch()
    (tmp_path / "folder").mkdir()
    for given_, why in (
        (tmp_path / "absent", "no such file"),
        (tmp_path / "folder", "folder without an interpreter"),
        (text, "not a Python interpreter"),
        (empty, "empty file"),
        (program, "not a Python interpreter"),
        (stump, "cut off"),
        (link, "which is not there"),
        ("no-such-python", "no such interpreter"),
        ("a\0b", "not a path"),
    ):
        with pytest.raises(InputError, match=why):
            find_interpreter(str(given_), {"PATH": "/nonexistent"})


def test_links_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    """A loop of links is no interpreter and no endless search."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError):
        find_interpreter(str(tmp_path / "a"), {})


def test_nothing_found_says_how_to_name_one() -> None:
    """Without any Python the message says which option to use."""
    with pytest.raises(InputError, match="--python"):
        find_interpreter(None, {"PATH": "/nonexistent"})


def test_an_environment_whose_interpreter_went_can_still_be_read(tmp_path: Path) -> None:
    """Its packages are all there; that the link leads nowhere is for a rule to say."""
    folder = environment(tmp_path)
    (folder / "bin" / "python").resolve().unlink()
    path = find_interpreter(str(folder), {})
    target = describe(path, {})
    assert target.gone.endswith("env-base/bin/python3.11")
    assert target.sites == (str(site_of(folder)),)


# --- pyenv


SHIM = '#!/usr/bin/env bash\nset -e\nprogram="${0##*/}"\nexport PYENV_ROOT="/root/.pyenv"\nexec "/root/.pyenv/bin/pyenv" exec "$program" "$@"\n'


@pytest.fixture
def pyenv(tmp_path: Path) -> Path:
    """A pyenv with a shim and three versions."""
    root = tmp_path / "pyenv"
    for version in ("3.10.4", "3.11.2", "3.11.10"):
        interpreter(root / "versions" / version, version)
    (root / "shims").mkdir()
    shim = root / "shims" / "python3"
    shim.write_text(SHIM)
    shim.chmod(0o755)
    return root


def test_a_shim_is_resolved_by_the_variable(pyenv: Path) -> None:
    """PYENV_VERSION names the version; a series stands for its newest release."""
    shim = str(pyenv / "shims" / "python3")
    environ = {"PYENV_ROOT": str(pyenv), "PYENV_VERSION": "3.10.4"}
    assert find_interpreter(shim, environ) == str(pyenv / "versions/3.10.4/bin/python3")
    environ["PYENV_VERSION"] = "3.11"
    assert find_interpreter(shim, environ) == str(pyenv / "versions/3.11.10/bin/python3")


def test_a_shim_is_resolved_by_the_nearest_file(pyenv: Path, tmp_path: Path) -> None:
    """.python-version in this folder or one above goes before the global version."""
    (pyenv / "version").write_text("3.10.4\n")
    below = tmp_path / "project" / "src"
    below.mkdir(parents=True)
    shim = str(pyenv / "shims" / "python3")
    environ = {"PYENV_ROOT": str(pyenv), "PYENV_DIR": str(below)}
    assert find_interpreter(shim, environ) == str(pyenv / "versions/3.10.4/bin/python3")
    (tmp_path / "project" / ".python-version").write_text("# comment\n3.11.2 # pinned\n")
    assert find_interpreter(shim, environ) == str(pyenv / "versions/3.11.2/bin/python3")


def test_a_shim_may_stand_for_the_system(pyenv: Path, tmp_path: Path) -> None:
    """The version `system` is the next python on the path that is no shim."""
    other = interpreter(tmp_path / "usr").parent
    environ = {"PYENV_VERSION": "system", "PATH": f"{pyenv / 'shims'}:{other}", "PYENV_ROOT": str(pyenv)}
    assert find_interpreter(str(pyenv / "shims" / "python3"), environ) == str(other / "python3")


def test_a_shim_without_a_version_says_so(pyenv: Path) -> None:
    """A version that is not installed is an error with a reason, not a guess."""
    with pytest.raises(InputError, match="pyenv"):
        find_interpreter(str(pyenv / "shims" / "python3"), {"PYENV_ROOT": str(pyenv), "PYENV_VERSION": "3.12.1"})


# --- describing it


def test_a_virtual_environment_is_described(tmp_path: Path) -> None:
    """Version, ABI, kind, folders and architecture, all from files."""
    folder = environment(tmp_path)
    target = describe(str(folder / "bin" / "python"), {"HOME": str(tmp_path)})
    assert (target.version, target.short, target.abi) == ("3.11.7", "3.11", "cp311")
    assert (target.kind, target.implementation, target.machine) == ("venv", "CPython", "x86_64")
    assert target.prefix == str(folder)
    assert target.base == str(tmp_path / "env-base")
    assert target.sites == (str(site_of(folder)),)
    assert target.created_with == "3.11.7"
    assert not target.free_threaded


def test_the_version_is_that_of_the_interpreter_not_of_its_record(tmp_path: Path) -> None:
    """pyvenv.cfg tells what was there when the environment was made; the headers tell what is there now."""
    folder = environment(tmp_path, "3.11.7")
    headers = tmp_path / "env-base" / "include" / "python3.11" / "patchlevel.h"
    headers.write_text('#define PY_VERSION "3.11.9+"\n')
    assert describe(str(folder / "bin" / "python"), {}).version == "3.11.9"
    headers.unlink()
    assert describe(str(folder / "bin" / "python"), {}).version == "3.11.7"


def test_uv_conda_and_pyenv_are_told_apart(tmp_path: Path) -> None:
    """By uv's line in pyvenv.cfg, conda's records, and pyenv's folders."""
    assert describe(str(environment(tmp_path, uv="0.9.1") / "bin" / "python"), {}).kind == "uv"
    conda = interpreter(tmp_path / "miniconda", "3.12.4")
    records = tmp_path / "miniconda" / "conda-meta"
    records.mkdir()
    (records / "python-3.12.4-h194c7f8_0_cpython.json").touch()
    (tmp_path / "miniconda" / "include" / "python3.12" / "patchlevel.h").unlink()
    target = describe(str(conda), {})
    assert (target.kind, target.version) == ("conda", "3.12.4")
    (tmp_path / "pyenv" / "shims").mkdir(parents=True)
    assert describe(str(interpreter(tmp_path / "pyenv" / "versions" / "3.10.4", "3.10.4")), {}).kind == "pyenv"


def test_a_free_threaded_build_has_an_abi_of_its_own(tmp_path: Path) -> None:
    """Its folders end in t, and so does the tag that wheels must carry."""
    base = tmp_path / "ft"
    (base / "bin").mkdir(parents=True)
    (base / "lib" / "python3.13t" / "site-packages").mkdir(parents=True)
    (base / "lib" / "python3.13t" / "os.py").touch()
    path = base / "bin" / "python3.13t"
    path.write_bytes(elf(exports=["Py_BytesMain"]))
    target = describe(str(path), {})
    assert (target.short, target.free_threaded, target.abi) == ("3.13", True, "cp313t")
    assert target.sites == (str(base / "lib" / "python3.13t" / "site-packages"),)


def test_packages_of_the_user_are_seen_where_python_sees_them(tmp_path: Path) -> None:
    """Not in a virtual environment, unless it looks at the system's packages; never with PYTHONNOUSERSITE."""
    home = tmp_path / "home"
    user = home / ".local" / "lib" / "python3.11" / "site-packages"
    install(user, "torch", "2.3.0")
    environ = {"HOME": str(home)}
    base = interpreter(tmp_path / "usr")
    assert describe(str(base), environ).user_site == str(user)
    assert describe(str(base), environ).sites[0] == str(user)
    assert describe(str(base), {**environ, "PYTHONNOUSERSITE": "1"}).user_site == ""
    closed = environment(tmp_path, name="closed")
    assert describe(str(closed / "bin" / "python"), environ).user_site == ""
    open_ = environment(tmp_path, name="open", **{"include-system-site-packages": "true"})
    target = describe(str(open_ / "bin" / "python"), environ)
    assert target.sites == (str(site_of(open_)), str(user), str(site_of(tmp_path / "open-base")))


def test_a_debian_interpreter_has_dist_packages() -> None:
    """Debian's Python keeps packages in folders of its own."""
    if not os.path.isdir("/usr/lib/python3/dist-packages") or not os.path.exists("/usr/bin/python3"):
        pytest.skip("no Debian")
    target = describe("/usr/bin/python3", {})
    assert "/usr/lib/python3/dist-packages" in target.sites
    assert target.kind == "system"


def test_another_architecture_is_told(tmp_path: Path) -> None:
    """An interpreter that cannot run here is described all the same."""
    target = describe(str(interpreter(tmp_path / "arm", machine="aarch64")), {})
    assert (target.machine, target.version) == ("aarch64", "3.11.7")


def test_an_old_python_is_described(tmp_path: Path) -> None:
    """Python 3.6 has other names for its folders, and is read like the others."""
    path = interpreter(tmp_path / "old", "3.6.15")
    (tmp_path / "old" / "include" / "python3.6").rename(tmp_path / "old" / "include" / "python3.6m")
    assert describe(str(path), {}).version == "3.6.15"


def test_nothing_around_an_interpreter_is_no_failure(tmp_path: Path) -> None:
    """Without folders there is no version and no package, and nothing is invented."""
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "mypython"
    path.write_bytes(elf(exports=["Py_BytesMain"]))
    target = describe(str(path), {})
    assert (target.version, target.abi, target.sites) == ("", "", ())


@given(st.text(max_size=300))
def test_any_text_is_a_configuration(text: str) -> None:
    """A pyvenv.cfg of garbage gives some settings, never an exception."""
    for key in read_configuration(text):
        assert key == key.strip().lower()


def test_the_first_mention_of_a_setting_counts() -> None:
    """As for Python itself; blanks around the sign do not matter, nor does the case of the key."""
    assert read_configuration("Home=/a\nhome = /b\n\nno sign\n = x\n") == {"home": "/a"}
