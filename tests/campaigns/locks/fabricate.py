"""Wheels made for tests: valid, tiny, and the same bytes each time."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence

TIME = (1980, 1, 1, 0, 0, 0)


def wheel(name: str, version: str, requires: Sequence[str] = (), extras: Sequence[str] = ()) -> tuple[str, bytes]:
    """File name and bytes of a wheel with one module."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = [
        "Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}",
        *(f"Provides-Extra: {extra}" for extra in extras),
        *(f"Requires-Dist: {requirement}" for requirement in requires),
    ]  # fmt: skip
    files = {
        f"{name.replace('-', '_')}/__init__.py": f'VERSION = "{version}"\n',
        f"{stem}.dist-info/METADATA": "\n".join(metadata) + "\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, TIME), text)
    return f"{stem}-py3-none-any.whl", packed.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
