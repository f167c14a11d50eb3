"""An export's folder: never over another, complete or not there."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from service.errors import ErrataError, NotExported
from service.local.ledger import local_ledger
from service.local.postgres import EmbeddedPostgres
from service.local.processes import end_server
from service.settings import Settings
from service.worker.export.folder import require_new, require_space, unfinished


def test_a_folder_appears_complete_under_its_name(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "taken"
    with unfinished(out) as folder:
        (folder / "weights").write_text("all of them")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["taken"]
    assert (out / "weights").read_text() == "all of them"


def interrupted(folder: Path) -> None:
    (folder / "weights").write_text("half of them")
    raise KeyboardInterrupt


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "taken") as folder:
        interrupted(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "folder", "dangling link"])
def test_what_is_there_is_left_alone(tmp_path: Path, there: str) -> None:
    out = tmp_path / "taken"
    if there == "file":
        out.write_text("mine")
    elif there == "folder":
        (out / "mine").mkdir(parents=True)
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotExported):
        require_new(out)
    with pytest.raises(NotExported), unfinished(out):  # it came into being while the export was written
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    require_new(tmp_path)
    with unfinished(tmp_path / "taken") as folder:
        (tmp_path / "taken").mkdir()
        (folder / "weights").write_text("all of them")
    assert (tmp_path / "taken" / "weights").exists()


def test_a_disk_that_is_too_small_is_known_beforehand(tmp_path: Path) -> None:
    require_space(tmp_path, 1000)
    with pytest.raises(NotExported, match="are free"):
        require_space(tmp_path, shutil.disk_usage(tmp_path).free)


def test_a_ledger_at_rest_is_started_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    settings, server = Settings(data_dir=tmp_path, database_url=""), EmbeddedPostgres(tmp_path)
    with pytest.raises(ErrataError, match="no ledger"), local_ledger(settings):
        pass
    assert list(tmp_path.iterdir()) == []
    server.start()
    with local_ledger(settings) as found:
        assert found.database_url.startswith("postgresql")
    assert server.pid() is not None
    end_server(server.pid(), signal.SIGINT, 20)
    with local_ledger(settings):
        assert server.pid() is not None
    assert server.pid() is None
