"""Shell completion: what a real bash offers for a line."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from ingest import cli

BASH = shutil.which("bash")


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    def make(shell: str) -> str:
        assert cli.main(["completion", shell]) == 0
        return capsys.readouterr().out

    return make


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["au"], {"audit"}),
        ([""], {*cli.HELP, "-h", "--help", "--version"}),
        (["--ver"], {"--version"}),
        (["simulate", "--layout", ""], {"current", "orders", "no_m", "extra", "reversed", "recorded"}),
        (["simulate", "--layout", "re"], {"reversed", "recorded"}),
        (["simulate", "--symbols", ""], set()),
        (["simulate", "--rate", "100", "--lay"], {"--layout"}),
        (["check", "--lis"], {"--list"}),
        (["completion", ""], {"-h", "--help", "bash", "zsh"}),
        (["nonsense", "--nothing"], set()),
    ],
)
def test_bash_offers_what_the_parser_accepts(line: list[str], offered: set[str], script: Callable[[str], str]) -> None:
    words = " ".join(f"'{word}'" for word in ["ingest", *line])
    code = (
        f"{script('bash')}\nCOMP_WORDS=({words}); COMP_CWORD={len(line)}; _ingest; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([str(BASH), "-eu", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") or not offered
    assert set(done.stdout.split()) == offered


def test_zsh_uses_the_same_function(script: Callable[[str], str]) -> None:
    text = script("zsh")
    assert text.startswith("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n")
    assert "complete -o bashdefault -o default -F _ingest ingest\n" in text


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["completion", "fish"])
    assert ended.value.code == 2
    assert "invalid choice: 'fish'" in capsys.readouterr().err
