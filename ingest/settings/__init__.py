"""Settings: one frozen value, one part for each edge, read from the environment once.

Each field is declared once with its type, bounds, default and meaning; the environment's name is the part's prefix and
the field's name in capitals. ``NAME_FILE`` holds the path of a file with the value (for secrets). The reference in
docs/ is generated from these declarations.
"""

from ingest.command.masking import MASK
from ingest.settings.declarations import BinanceSettings, KafkaSettings, ServiceSettings, Settings
from ingest.settings.display import default_text, is_secret_option, secrets, shown
from ingest.settings.names import service_links
from ingest.settings.reading import Declared, declared, load

__all__ = [
    "MASK",
    "BinanceSettings",
    "Declared",
    "KafkaSettings",
    "ServiceSettings",
    "Settings",
    "declared",
    "default_text",
    "is_secret_option",
    "load",
    "secrets",
    "service_links",
    "shown",
]
