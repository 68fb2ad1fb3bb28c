"""What a soak is to show: its length, its limits, and how its memory is judged. Plain values, no I/O."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

MB = 2**20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One kind of soak. Times in seconds of the service's clock, sizes in MB (2**20 bytes)."""

    name: str
    required_seconds: float
    """What the criterion asks for."""
    run_seconds: float
    """What this run will last on the wall clock: shorter for a trial, or divided by ``factor``."""
    growth_mb: float
    """Growth that the memory may show over ``required_seconds``, less than this."""
    abort_mb: float
    """The first sample above it ends the run with FAIL."""
    warm_up_seconds: float
    """Discarded before the trend is judged."""
    minima_seconds: float
    """Width of the slots whose lowest samples the charts show."""
    block_seconds: float
    """Width of the blocks whose lowest samples are compared: longer than a cycle of the garbage collector."""
    smoke: bool = False
    """Too short to find a slow leak: the report says so."""
    sample_seconds: float = 60.0
    progress_seconds: float = 300.0
    least_rate: float = 10.0
    """Messages per second, on average and in the worst five minutes, more than this."""
    most_drops: int = 10
    """Connections that ended unasked, fewer than this."""
    least_samples: float = 0.95
    least_duration: float = 0.98
    factor: float = 1.0
    """Compression: how many seconds of the market pass in one second of the wall clock."""

    @property
    def compressed(self) -> bool:
        """Whether the market ran faster than the clock."""
        return self.factor != 1.0

    @property
    def share(self) -> float:
        """How much of the required market time this run covers: below 1 only for a trial."""
        return self.run_seconds * self.factor / self.required_seconds

    @property
    def trial(self) -> bool:
        """Whether the run is too short for its own criterion on purpose."""
        return self.share < self.least_duration

    @property
    def expected_samples(self) -> int:
        """Samples of an unbroken run, the first at its start."""
        return int(self.run_seconds / self.sample_seconds) + 1

    def shortened(self, seconds: float) -> Self:
        """The same soak cut to ``seconds`` for a trial: at least 20 samples, and never the criterion's PASS."""
        seconds = min(seconds, self.run_seconds)
        return replace(self, run_seconds=seconds, sample_seconds=min(self.sample_seconds, seconds / 20))

    def compressed_by(self, factor: float) -> Self:
        """The same market time in ``1/factor`` of the wall time."""
        seconds = self.run_seconds / factor
        return replace(self, factor=factor, run_seconds=seconds, sample_seconds=max(1.0, self.sample_seconds / factor))

    def as_json(self) -> dict[str, Any]:
        """Plain data that ``from_json`` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The plan of a record or of a trigger. Raises ``ValueError`` for missing or unknown names."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"unknown in a soak's plan: {', '.join(unknown)}")
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(f"a soak's plan: {error}") from error


SOAK_24H = Plan(
    name="24h",
    required_seconds=86_400.0,
    run_seconds=86_400.0,
    growth_mb=50.0,
    abort_mb=450.0,
    warm_up_seconds=3_600.0,
    minima_seconds=900.0,
    block_seconds=10_350.0,
)
SOAK_12H = replace(
    SOAK_24H, name="12h", required_seconds=43_200.0, run_seconds=43_200.0, growth_mb=30.0, block_seconds=4_950.0
)
SOAK_1H = Plan(
    name="1h",
    required_seconds=3_600.0,
    run_seconds=3_600.0,
    growth_mb=10.0,
    abort_mb=400.0,
    warm_up_seconds=1_800.0,
    minima_seconds=300.0,
    block_seconds=300.0,
    smoke=True,
)
SOAK_3MIN = Plan(
    name="3min",
    required_seconds=180.0,
    run_seconds=180.0,
    growth_mb=10.0,
    abort_mb=400.0,
    warm_up_seconds=60.0,
    minima_seconds=15.0,
    block_seconds=20.0,
    sample_seconds=5.0,
    progress_seconds=60.0,
    smoke=True,
)
"""Whether everything is connected: what fits between two steps of a deployment. It finds a flood, not a leak."""
PLANS: dict[str, Plan] = {plan.name: plan for plan in (SOAK_24H, SOAK_12H, SOAK_1H, SOAK_3MIN)}
