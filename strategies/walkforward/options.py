"""How to run, as against what to run: folders, processes, what is written besides. Nothing here changes a result."""

from __future__ import annotations

from pathlib import Path

from data.commandline import JSON_HELP, QUIET_HELP
from data.settings import Count, Settings, Share, setting
from strategies.walkforward.config import OUTPUT, RUNNING


class Options(Settings):
    """How to run."""

    out: Path = setting(Path("reports"), "Folder for runs/, latest and index.html.", OUTPUT)
    jobs: Count | None = setting(None, "Processes (default: all cores).", RUNNING)
    engine: str = setting("local", "Where tasks run: local (processes) or ray.", RUNNING)
    address: str | None = setting(None, "Ray cluster to use (default: one started on this machine).", RUNNING)
    gpus_per_task: Share = setting(0.0, "Share of a GPU that each task holds on Ray.", RUNNING)
    budget: Count | None = setting(
        None,
        "Charge this run to a budget of so many looks: refused where it is spent, judged as after all of them.",
        RUNNING,
    )
    fresh: bool = setting(False, "Forget what an earlier run of this command finished.", RUNNING)
    dry_run: bool = setting(False, "Show the windows and the time it would take, and stop.", RUNNING)
    quiet: bool = setting(False, QUIET_HELP)
    as_json: bool = setting(False, JSON_HELP, alias="json")
    pages: bool = setting(True, "Write the HTML pages (the default), or only the data files.", OUTPUT)
    profile: bool = setting(False, "Seconds per stage, the slowest named.", OUTPUT)
    tensorboard: bool = setting(False, "Also write the searches for TensorBoard, while they run.", OUTPUT)
    mlflow: str | None = setting(None, "Also log the run to this MLflow server or store.", OUTPUT)
