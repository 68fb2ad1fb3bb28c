"""``make screenshots``: five pages of the web interface as pictures for the documentation, in ``docs/images``.

They are what ``make ui`` has photographed last; it keeps more of them in ``reports/ui``.
"""

import shutil
import sys

from tests.harness.processes import ROOT

FOLDER = ROOT / "reports" / "ui"
IMAGES = ROOT / "docs" / "images"
PAGES = {
    "form-deploy_blue_green": "airflow-form",
    "question": "airflow-question",
    "run-report": "airflow-run",
    "deployment-report": "report-deployment",
    "reports-dark-on-light": "airflow-reports-dark",
}
"""Picture of ``make ui`` -> its name in the documentation."""


def main() -> int:
    """Copy them; 2 with what is missing, if one is."""
    missing = [name for name in PAGES if not (FOLDER / f"{name}.png").is_file()]
    if missing:
        sys.stderr.write(f"no picture of {', '.join(missing)} in {FOLDER}: run make ui first\n")
        return 2
    for name, target in PAGES.items():
        shutil.copyfile(FOLDER / f"{name}.png", IMAGES / f"{target}.png")
        sys.stdout.write(f"docs/images/{target}.png\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
