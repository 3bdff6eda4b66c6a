"""Run All in JupyterLab, one notebook after the other, in a real browser (`make test-browser`)."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import ROOT

from wcse_lib.study import STAGES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(3600)]
playwright = pytest.importorskip(
    "playwright.sync_api", reason="make test-browser installs playwright"
)
CHROMIUM = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
FLAGS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
# a kernel is said to be idle before it is there, and what is run then is lost
KERNEL_READY = """async () => {
    const context = window.jupyterapp.shell.currentWidget.sessionContext;
    await context.ready;
    await context.session.kernel.info;
}"""
# what the menu's Run All Cells does; not awaited, since cells take minutes
RUN_ALL = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
CUT_OFF = """() => [...document.querySelectorAll(".jp-OutputArea-output")]
    .filter(output => output.scrollWidth > output.clientWidth + 2)
    .map(output => output.textContent.slice(0, 60))"""  # outputs that are wider than what is shown of them
WRITES = {
    "02_generate": ("se", "wc"),
    "03_verify": ("se", "wc"),
}  # every other notebook has one manifest


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab over a copy of the notebooks whose parameters name the smoke study; gives its address and folder."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    root = tmp_path_factory.mktemp("lab")
    for folder in ("params", "notebooks"):
        shutil.copytree(ROOT / folder, root / folder)
    for stage in STAGES:
        text = (
            (ROOT / "notebooks" / f"{stage}.ipynb")
            .read_text()
            .replace("params/nano.yaml", "params/smoke.yaml")
            .replace("outputs/nano", "outputs/smoke")
        )
        data = json.loads(text)
        cell = next(c for c in data["cells"] if c["cell_type"] == "code")
        source = "".join(cell["source"])
        if "machine: str" in source:
            source = source.replace('machine: str = ""', 'machine: str = "params/machine/cpu.yaml"')
        cell["source"] = source
        (root / "notebooks" / f"{stage}.ipynb").write_text(json.dumps(data))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
        "--LabApp.expose_app_in_browser=True",
        str(root),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(
        command, cwd=root, env={**os.environ, "JUPYTER_CONFIG_DIR": str(root / "config")}, **quiet
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2)
            break
        except OSError:
            time.sleep(0.5)
    yield address, root
    server.terminate()
    server.wait(30)


def run_all(page, address, root, name):
    """Run All in one notebook; returns its cells as saved once nothing is left to run."""
    path = root / "notebooks" / f"{name}.ipynb"
    page.goto(f"{address}/lab/tree/notebooks/{name}.ipynb?reset")
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook").wait_for(timeout=120_000)
    page.evaluate(KERNEL_READY)
    page.evaluate(RUN_ALL)
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        time.sleep(3)
        page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        time.sleep(1)
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        errors = [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
        if errors or all(c["execution_count"] for c in cells if "".join(c["source"]).strip()):
            return cells, errors
    raise AssertionError(f"{name}: not done after 15 minutes")


def test_run_all_in_every_notebook(lab):
    address, root = lab
    pictures = os.environ.get("WCSE_SCREENSHOTS")  # a folder, to look at what people see
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for stage in STAGES:
            cells, errors = run_all(page, address, root, stage)
            assert not errors, f"{stage}: {errors[0]['ename']}: {errors[0]['evalue']}"
            if pictures:
                page.screenshot(path=f"{pictures}/{stage}.png")
            widgets = [
                o
                for c in cells
                for o in c["outputs"]
                if "application/vnd.jupyter.widget-view+json" in o.get("data", {})
            ]
            assert widgets or stage != "01_plan", "01 shows no sliders"
            if stage == "06_analyze":
                assert not page.evaluate(CUT_OFF)
                assert "NaN" not in json.dumps(cells)
            for arm in WRITES.get(stage, ("",)):
                assert (root / "outputs/smoke" / stage / arm / "manifest.json").exists(), (
                    f"{stage} {arm} wrote no manifest"
                )
        browser.close()
