"""How close to the machine's limit is a step?

The operations of its matrix products (`flops.py`) times steps per second, over the rate of a large product that is
measured in the same repeat. On a GPU also the bytes of the training state, read and written once a step, over the
bandwidth of a large copy, and steps over those of a loop that launches as many kernels that do nothing.
"""

from __future__ import annotations

import time
from typing import Any

from experiments.benchmark import hlo, machine
from experiments.benchmark.flops import TOLERANCE, step_bytes, step_flops
from experiments.benchmark.settings import Work, on_device
from experiments.benchmark.stats import spread


def measure(work: Work) -> dict[str, Any]:
    """Limits of this machine, and what every system reaches of them."""
    import jax

    on_gpu = jax.devices()[0].platform != "cpu"
    limits: dict[str, list[float]] = {"matmul": [], "copy": []}
    programs = {system: Program(work, system) for system in work.settings.systems}
    for _ in range(work.settings.repeats):
        limits["matmul"].append(machine.matmul_rate())
        limits["copy"].append(machine.copy_bandwidth())
        for program in programs.values():
            program.time_piece(work.settings.seconds)
    found: dict[str, Any] = {name: spread(values) for name, values in limits.items()}
    found["systems"] = {name: program.found(limits, on_gpu=on_gpu) for name, program in programs.items()}
    wrong = [
        f"{name}: XLA counts {row['xla_flops']:,} operations a step, `flops.py` {row['flops']:,}"
        for name, row in found["systems"].items()
        if not row["flops"] <= row["xla_flops"] <= (1.0 + TOLERANCE) * row["flops"]
    ]
    return found | {"tolerance": TOLERANCE, "failures": wrong}


class Program:
    """A system's training, timed piece by piece in this process."""

    def __init__(self, work: Work, system: str) -> None:
        import jax

        from jaxgan import draw_batch, init_state, train_step, train_steps
        from jaxgan.gan.program import train_loop

        self.config, self.dataset, self.rates = work.config(system), on_device(work), []
        self.state = init_state(self.config, jax.random.key(0))
        batch = jax.jit(draw_batch, static_argnums=0)(self.config, self.dataset, self.state.key, self.state.step)
        # For the CPU: of products that a GPU's libraries make XLA counts no operation.
        here = jax.device_put((self.state, batch), jax.local_devices(backend="cpu")[0])
        self.costs = train_step.program.lower(self.config.structure, *here).compile().cost_analysis()
        loop = train_loop.program.lower(self.config.structure, self.state, self.dataset, jax.numpy.int32(1))
        self.kernels = hlo.kernels(loop.compile().as_text())
        self._train = train_steps
        self.rate = 0.0
        self._steps(10)
        self.rate = self._steps(10)

    def _steps(self, n: int) -> float:
        began = time.perf_counter()
        self.state, _ = self._train(self.config, self.state, self.dataset, n)
        return n / (time.perf_counter() - began)

    def time_piece(self, seconds: float) -> None:
        """Makes a piece of about so many seconds."""
        self.rates.append(self._steps(max(10, round(self.rate * seconds))))

    def found(self, limits: dict[str, list[float]], *, on_gpu: bool) -> dict[str, Any]:
        """Counts, rates and shares."""
        flops, moved = step_flops(self.config), step_bytes(self.config)
        shares = [rate * flops / matmul for rate, matmul in zip(self.rates, limits["matmul"], strict=True)]
        row = {
            "flops": flops,
            "xla_flops": int(self.costs["flops"]),
            "bytes": moved,
            "rate": spread(self.rates),
            "share": spread(shares),
        }
        if on_gpu:
            row["copy_share"] = spread([r * moved / c for r, c in zip(self.rates, limits["copy"], strict=True)])
            row |= {"kernels": self.kernels, "launch_floor": machine.launch_floor(self.kernels)}
        return row
