"""The working folder as an archive: what goes in, what stays out, and that the same content gives the same name."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from launcher.core.errors import UsageError
from launcher.store.archive import LARGEST_BYTES, Archive, pack_workdir
from launcher.store.ignore import Ignored
from launcher.store.sizes import size_text


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def write(folder: Path, *paths: str, **content: str) -> None:
    """Files with a word in each, and rule files with these lines."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"content of " + os.fsencode(path))
    for name, lines in content.items():
        (folder / f".{name}").write_text(lines)


def members(archive: Archive) -> dict[str, tarfile.TarInfo]:
    """What an archive holds, by path."""
    archive.file.seek(0)
    with tarfile.open(fileobj=archive.file) as tar:
        return {info.name: info for info in tar.getmembers()}


def packed(folder: Path, **how: Any) -> list[str]:
    """The files and links of a packed folder, by path."""
    with pack_workdir(folder, **how) as archive:
        return [path for path, info in members(archive).items() if not info.isdir()]


def digest(folder: Path) -> str:
    """The name of a packed folder."""
    with pack_workdir(folder) as archive:
        return archive.sha256


def test_an_archive_unpacks_to_what_was_there(work: Path, tmp_path: Path) -> None:
    """Files, empty folders, modes and links; with the sizes that a user wants to know."""
    write(work, "train.py", "deep/er/data.txt", "run.sh")
    (work / "run.sh").chmod(0o700)
    (work / "empty").mkdir()
    (work / "link").symlink_to("deep/er")
    with pack_workdir(work) as archive:
        assert hashlib.sha256(archive.file.read()).hexdigest() == archive.sha256
        assert (archive.file.tell(), archive.files) == (archive.bytes, 4)
        assert archive.content_bytes == sum(path.stat().st_size for path in work.rglob("*.*") if path.is_file())
        archive.file.seek(0)
        with tarfile.open(fileobj=archive.file) as tar:
            tar.extractall(tmp_path / "out", filter="data")
    out = tmp_path / "out"

    assert subprocess.run(["diff", "-r", "--no-dereference", work, out], capture_output=True).returncode == 0
    assert (out / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "train.py").stat().st_mode & 0o777 == 0o644


def test_the_same_content_gives_the_same_archive(work: Path, tmp_path: Path) -> None:
    """Whoever owns it, whenever it was written, in whichever order, and wherever it lies."""
    write(work, "b.py", "a/x.py", "a.py")
    other = tmp_path / "other"
    other.mkdir()
    write(other, "a.py", "a/x.py", "b.py")
    os.utime(other / "a.py", (0, 0))
    (other / "b.py").chmod(0o600)

    assert digest(work) == digest(other)
    (other / "b.py").write_text("something else")
    assert digest(work) != digest(other)


@pytest.mark.parametrize("change", ["rename", "executable", "folder"])
def test_what_the_training_could_see_changes_the_name(work: Path, change: str) -> None:
    """Not only what is in the files."""
    write(work, "a.py")
    before = digest(work)
    if change == "rename":
        (work / "a.py").rename(work / "b.py")
    elif change == "executable":
        (work / "a.py").chmod(0o755)
    else:
        (work / "folder").mkdir()

    assert digest(work) != before


def test_what_is_neither_file_nor_folder_nor_link_stays_out(work: Path) -> None:
    """A pipe would block, a socket cannot be packed."""
    write(work, "a.py")
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(work / "socket"))
        assert packed(work) == ["a.py"]


def test_odd_names_survive(work: Path) -> None:
    """A name need not be UTF-8, nor short."""
    names = sorted(["a b", "é", "not-\udcff", "new\nline", "x" * 200])
    write(work, *names)

    assert sorted(packed(work)) == names


# Ignore files


def test_git_and_a_store_inside_stay_out(work: Path) -> None:
    """`.git` is a folder, or a file in a worktree or submodule."""
    write(work, "a.py", ".git/HEAD", "sub/.git", "sub/b.py", "store/j-1/1/output.log", ".gitattributes")

    assert packed(work, without=[work / "store"]) == [".gitattributes", "a.py", "sub/b.py"]


TREE = [
    "a.py",
    "a.pyc",
    "build/x",
    "sub/build/y",
    "sub/keep.log",
    "sub/drop.log",
    "sub/deep/drop.log",
    "sub/deep/special.log",
    "data/raw/1.bin",
    "data/raw/keep.bin",
    "data/clean/2.bin",
    "logs/today/a.txt",
    "logs/a.txt",
    "space ",
    "#hash",
    "!bang",
    "[x]",
    "docs/a.md",
    "docs/b/c.md",
    "node/x/node/y",
    "only/here/z",
    "deep/only/here/z",
]
GIT_RULES = {
    ".gitignore": "\n".join(
        [
            "*.pyc",
            "build/",
            "*.log",
            "!keep.log",
            "data/raw/*",
            "!data/raw/keep.bin",
            "/logs/",
            "!/logs/a.txt",
            "space\\ ",
            "\\#hash",
            "\\!bang",
            "# a comment",
            "",
            "docs/**/c.md",
            "only/here",
        ]
    ),
    "sub/deep/.gitignore": "!special.log\n",
    "node/.gitignore": "/node\n/x/node/\n",
}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git, to compare with")
@pytest.mark.parametrize("below", ["", "sub", "data"])
def test_gitignore_means_what_git_means_by_it(work: Path, below: str) -> None:
    """File by file, also for a working folder below the repository's root."""
    write(work, *TREE)
    for path, lines in GIT_RULES.items():
        (work / path).write_text(lines)
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": os.environ["PATH"]}
    subprocess.run(["git", "init", "-q", work], check=True, env=alone)
    listed = ["git", "ls-files", "-z", "--others", "--exclude-standard", "."]
    told = subprocess.run(listed, cwd=work / below, env=alone, capture_output=True, text=True, check=True).stdout

    assert packed(work / below) == sorted(told.split("\0")[:-1], key=lambda path: path.split("/"))


def test_a_working_folder_that_git_ignores_is_sent(work: Path) -> None:
    """Whoever names it wants it; rules that do not speak of the folder itself still hold in it."""
    write(work, ".git/HEAD", "runs/1/train.py", "runs/1/x.pyc", gitignore="runs/\n")
    (work / ".git").mkdir(exist_ok=True)

    assert packed(work / "runs/1") == ["train.py", "x.pyc"]


def test_rules_above_count_within_a_repository_only(work: Path) -> None:
    """A stray .gitignore in a folder above is nobody's."""
    write(work, "sub/a.py", gitignore="*.py\n")

    assert packed(work / "sub") == ["a.py"]


def test_dockerignore_means_what_docker_means_by_it(work: Path) -> None:
    """Patterns start at the folder, and the last that matches wins, also below a folder that is left out."""
    write(work, "a.txt", "sub/a.txt", "sub/b.txt", "big/1", "big/2", "big/keep/3", "x/deep/c.tmp", "c.tmp", "end/1")
    write(work, dockerignore="# a comment\n/a.txt\n  big  \n!big/keep\n**/*.tmp\n\nsub/b.*\nend/\n")

    assert packed(work) == [".dockerignore", "big/keep/3", "sub/a.txt"]


def test_dockerignore_can_ask_for_what_git_ignores(work: Path) -> None:
    """A data set is not in the repository, and the training needs it."""
    write(work, "data/1.bin", "data/deep/2.bin", "data/2.tmp", "cache/3", gitignore="data/\ncache/\n")
    write(work, dockerignore="!data\n*.tmp\ndata/*.tmp\n")

    assert packed(work) == [".dockerignore", ".gitignore", "data/1.bin", "data/deep/2.bin"]


def test_a_folder_that_is_left_out_is_not_walked(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of a million files must not cost minutes."""
    write(work, "a.py", "data/1", "venv/lib/x", gitignore="data/\n", dockerignore="venv\n!notes.md\n")
    ignored = Ignored(work)

    assert [ignored.leaves_out_folder(path) for path in ("data", "venv", ".git", "src")] == [True, True, True, False]


@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
@pytest.mark.parametrize("line", ["!", "[z-a]"])
def test_a_pattern_that_means_nothing_is_named(work: Path, name: str, line: str) -> None:
    """The file that it stands in, so that it can be found."""
    write(work, "a.py")
    (work / name).write_text(f"{line}\n")
    if (name, line) == (".dockerignore", "!"):
        assert packed(work) == [name, "a.py"]  # an exception of nothing says nothing
        return

    with pytest.raises(UsageError, match=f"{name} holds a pattern that means nothing"):
        pack_workdir(work)


# What is refused


SECRETS = [
    ".env",
    ".env.production",
    "conf/id_rsa",
    "ID_ED25519",
    "keys/server.pem",
    "credentials",
    ".aws/config",
    "home/.ssh/known_hosts",
    ".netrc",
    ".config/gcloud/credentials.db",
    "service-account-1.json",
    "kaggle.json",
]


@pytest.mark.parametrize("path", SECRETS)
def test_what_looks_like_a_secret_is_refused(work: Path, path: str) -> None:
    """By name, wherever it lies; .dockerignore keeps it out, or says that it is meant."""
    write(work, "train.py", path)

    with pytest.raises(UsageError, match="look like secrets") as caught:
        pack_workdir(work)
    assert path in caught.value.what
    assert f"(!{path})" in caught.value.fix
    write(work, dockerignore=f"{path}\n")
    assert packed(work) == [".dockerignore", "train.py"]
    write(work, dockerignore=f"!{path}\n")
    assert path in packed(work)


def test_what_only_sounds_like_a_secret_is_sent(work: Path) -> None:
    """A template of one is there to be read."""
    harmless = [".env.example", "credentials.py", "environment.yaml", "id_rsa.pub", "tokens.txt", "model.pem.txt"]
    write(work, *harmless)

    assert sorted(packed(work)) == sorted(harmless)


def test_many_secrets_are_listed_in_short(work: Path) -> None:
    """The message fits a screen."""
    write(work, *(f"{n:02}/.env" for n in range(20)))

    with pytest.raises(UsageError, match=r"00/\.env, .*07/\.env and 12 more\."):
        pack_workdir(work)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "missing/../../../outside"])
def test_a_link_that_leads_out_is_refused(work: Path, target: str) -> None:
    """What it points at would not be there; .dockerignore leaves it out."""
    write(work, "sub/a.py", "../outside")
    (work / "link").symlink_to(target)

    with pytest.raises(UsageError, match=f"lead out of it: link -> {target}"):
        pack_workdir(work)
    write(work, dockerignore="link\n")
    assert packed(work) == [".dockerignore", "sub/a.py"]


def test_links_inside_hold_wherever_the_folder_is(work: Path) -> None:
    """One that is absolute, or goes around by the folder's own name, becomes relative; a loop or a dead end stays."""
    write(work, "sub/a.py")
    links = {
        "absolute": str(work / "sub/a.py"),
        "sub/around": f"../../{work.name}/sub",
        "relative": "sub/../sub/a.py",
        "dead": "nowhere",
        "loop": "loop",
    }
    for name, target in links.items():
        (work / name).symlink_to(target)
    with pack_workdir(work) as archive:
        found = {path: info.linkname for path, info in members(archive).items() if info.issym()}

    assert found == {**links, "absolute": "sub/a.py", "sub/around": "."}


def test_a_folder_that_is_too_large_is_refused_before_it_is_packed(work: Path) -> None:
    """With what makes it large, and the way out; a sparse file counts with its size."""
    write(work, "train.py")
    for name, size in (("data/a.bin", LARGEST_BYTES), ("data/b.bin", 1), ("model.pt", 5_000_000)):
        (work / name).parent.mkdir(exist_ok=True)
        with (work / name).open("wb") as file:
            file.truncate(size)

    with pytest.raises(UsageError, match=r"holds 2\.2 GB; at most 2\.1 GB are sent") as caught:
        pack_workdir(work)
    assert caught.value.why.startswith("The biggest in it: data (2.1 GB), model.pt (5.0 MB), train.py (19 bytes)")
    write(work, dockerignore="data\n")
    assert packed(work) == [".dockerignore", "model.pt", "train.py"]


def test_a_file_that_shrinks_meanwhile_is_an_error(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive never holds half of a file."""
    write(work, "a.log")
    real = tarfile.TarFile.addfile

    def shrink(*args: Any) -> None:
        (work / "a.log").write_text("")
        real(*args)

    monkeypatch.setattr(tarfile.TarFile, "addfile", shrink)
    with pytest.raises(UsageError, match=r"a\.log became shorter while the workdir was packed"):
        pack_workdir(work)


@pytest.mark.skipif(os.geteuid() == 0, reason="no file is closed to root")
def test_a_file_that_cannot_be_read_is_named(work: Path) -> None:
    """With what to do."""
    write(work, "closed")
    (work / "closed").chmod(0)

    with pytest.raises(UsageError, match=r"Permission denied: .*closed"):
        pack_workdir(work)


@pytest.mark.parametrize("kind", ["file", "missing"])
def test_a_workdir_that_is_no_folder_is_refused(work: Path, kind: str) -> None:
    """Before anything else."""
    write(work, "file")

    with pytest.raises(UsageError, match="is not a folder"):
        pack_workdir(work / kind)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2 << 30, "2.1 GB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes_are_short(size: int, text: str) -> None:
    """One decimal, and the unit that fits."""
    assert size_text(size) == text
