"""What becomes of a Flower app bundle, and of files that only look like one."""

import hashlib
import stat
import zipfile
from pathlib import Path

import pytest

from fedplane.collaborator.bundles import unpacked
from fedplane.runtime.errors import BadInput
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX, Bundle

APP = {"pyproject.toml": b"[project]\n", "app/client.py": b"app = 1\n"}


def listing(files: dict[str, bytes]) -> str:
    return "\n".join(f"{name},{hashlib.sha256(content).hexdigest()},{8 * len(content)}" for name, content in files.items())


def bundle(directory: Path, files: dict[str, bytes] = APP, listed: str | None = None) -> Bundle:
    path = directory / "app.fab"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(".info/CONTENT", listing(files) if listed is None else listed)
    return Bundle(str(path))


def refusal(directory: Path, refused: Bundle) -> str:
    """Why it is refused; nothing of it is left."""
    with pytest.raises(BadInput) as bad:
        unpacked(refused, directory / "bundle")
    assert [path for path in directory.rglob("*") if path.name != "app.fab"] == []
    prefix, suffix = f"the bundle {directory / 'app.fab'} cannot be used: ", "; make it again with `fedplane bundle`"
    said = str(bad.value)
    assert said.startswith(prefix) and said.endswith(suffix)
    return said[len(prefix) : -len(suffix)]


def test_a_bundle_becomes_a_directory_with_its_files(tmp_path: Path) -> None:
    directory = unpacked(bundle(tmp_path), tmp_path / "bundle")

    assert {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()} == APP


def test_a_bundle_is_unpacked_once_for_a_run(tmp_path: Path) -> None:
    first = unpacked(bundle(tmp_path), tmp_path / "bundle")
    (tmp_path / "app.fab").unlink()

    assert unpacked(Bundle(str(tmp_path / "app.fab")), tmp_path / "bundle") == first


def test_what_was_left_half_unpacked_is_unpacked_anew(tmp_path: Path) -> None:
    (tmp_path / "bundle.half/app").mkdir(parents=True)
    (tmp_path / "bundle.half/app/stale.py").touch()

    assert not (unpacked(bundle(tmp_path), tmp_path / "bundle") / "app/stale.py").exists()


@pytest.mark.parametrize("path", ["../evil.py", "/etc/evil.py", "app/../../evil.py", "..\\evil.py"])
def test_a_path_that_leads_out_of_the_bundle_is_refused(tmp_path: Path, path: str) -> None:
    assert refusal(tmp_path, bundle(tmp_path, APP | {path: b""})) == f"the path {path!r} leads out of it"


def test_a_link_is_refused(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    link = zipfile.ZipInfo("app/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(made.path, "a") as archive:
        archive.writestr(link, "/etc/passwd")

    assert refusal(tmp_path, made) == "'app/link' is a link"


@pytest.mark.parametrize(
    ("files", "listed", "said"),
    [
        (APP | {"app/more.py": b""}, listing(APP), "'app/more.py' is not in its list, .info/CONTENT"),
        (APP, listing(APP | {"app/more.py": b""}), "'app/more.py' is in its list, .info/CONTENT, and not in it"),
        (APP, listing(APP | {"app/client.py": b"app = 2\n"}), "'app/client.py' is not what its list, .info/CONTENT, says"),
        (APP, "", "'app/client.py' is not in its list, .info/CONTENT"),
        ({"app/client.py": b""}, None, "it has no pyproject.toml"),
        (
            APP | {str(number): b"" for number in range(9_998)},
            None,
            "it holds 10001 files of ",
        ),
    ],
    ids=["a file too many", "a file too few", "another file", "no list", "no project", "too many files"],
)
def test_a_bundle_that_is_not_what_it_says_is_refused(tmp_path: Path, files: dict[str, bytes], listed: str | None, said: str) -> None:
    assert refusal(tmp_path, bundle(tmp_path, files, listed)).startswith(said)


def test_a_bundle_that_would_fill_the_disk_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    said = refusal(tmp_path, bundle(tmp_path, APP | {"app/zeros": bytes(100_000_000)}))

    assert said.startswith("it holds 4 files of 1000")


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.fab"
    missing = refusal(tmp_path, Bundle(str(path)))
    path.write_bytes(b"PK")
    wrong = refusal(tmp_path, Bundle(str(path)))
    path.write_bytes(bytes(BUNDLE_BYTES_MAX + 1))
    large = refusal(tmp_path, Bundle(str(path)))

    assert (missing, wrong) == ("No such file or directory", "File is not a zip file")
    assert large == f"it has {BUNDLE_BYTES_MAX + 1} bytes, and a bundle may have {BUNDLE_BYTES_MAX}"


def test_a_bundle_other_than_the_one_that_was_submitted_is_refused(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    found = hashlib.sha256(Path(made.path).read_bytes()).hexdigest()

    assert refusal(tmp_path, Bundle(made.path, "0" * 64)) == (
        f"the run was submitted with the one of SHA-256 {'0' * 64}, and this one has {found}"
    )
    assert unpacked(Bundle(made.path, found), tmp_path / "bundle").is_dir()


@pytest.mark.parametrize(
    ("app", "meant"),
    [
        ("/a/app.fab", Bundle("/a/app.fab")),
        ("/a/app.fab#sha256=AB12", Bundle("/a/app.fab", "ab12")),
        ("/a/app", None),
        ("/a/app.fab/more", None),
    ],
)
def test_a_run_says_which_bundle_it_means(app: str, meant: Bundle | None) -> None:
    assert Bundle.meant_by(app) == meant
    assert meant is None or Bundle.meant_by(str(meant)) == meant
