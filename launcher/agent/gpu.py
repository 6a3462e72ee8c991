"""What the machine's GPUs do, by nvidia-smi: the same readings, under the same names, as those of this computer's GPU.

One nvidia-smi runs on beside the training and prints a line for each card every few seconds. Energy is power added up
over time. (docs.nvidia.com/deploy/nvidia-smi, --query-gpu)
"""

from __future__ import annotations

import shutil
import subprocess
import threading

from . import clock, processes

EVERY_S = 10
FIELDS = "index,power.draw,temperature.gpu,utilization.gpu,memory.used,memory.total"


class Gpu:
    """Readings of all GPUs together: power and memory add up, the hottest and the busiest count."""

    def __init__(self) -> None:
        self.reading: dict[str, float] | None = None
        self.cards: dict[str, list[float]] = {}
        self.count = 0
        """How many there are, once the first round is over."""
        self.energy_j = self.seconds = self.degree_seconds = self.hottest_c = self.watts = 0.0
        self.last_s: float | None = None
        if program := shutil.which("nvidia-smi"):
            argv = [program, f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits", "-l", str(EVERY_S)]
            try:
                child = processes.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            except OSError:
                return
            threading.Thread(target=self._follow, args=(child,), daemon=True).start()

    def _follow(self, child: subprocess.Popen[str]) -> None:
        for line in child.stdout or ():
            self.take(line, clock.awake())

    def take(self, line: str, now_s: float) -> None:
        """One card's line at that time, in seconds. What a card does not tell counts as 0."""
        index, *texts = (text.strip() for text in line.split(","))
        if not index.isdecimal() or len(texts) != FIELDS.count(","):
            return
        if index in self.cards:  # the next round begins
            self.count, self.cards = len(self.cards), {}
        self.cards[index] = [_number(text) for text in texts]
        if len(self.cards) >= self.count:
            self._add(now_s)
            self._tell()

    def _add(self, now_s: float) -> None:
        watts, temperature_c = sum(card[0] for card in self.cards.values()), max(c[1] for c in self.cards.values())
        if self.last_s is not None:
            passed_s = now_s - self.last_s
            self.energy_j += (watts + self.watts) / 2 * passed_s
            self.degree_seconds += temperature_c * passed_s
            self.seconds += passed_s
        self.last_s, self.watts = now_s, watts
        self.hottest_c = max(self.hottest_c, temperature_c)

    def _tell(self) -> None:
        cards = list(self.cards.values())
        watts, temperature_c = sum(card[0] for card in cards), max(card[1] for card in cards)
        self.reading = {
            "count": float(len(cards)),
            "watts": round(watts, 1),
            "mean_watts": round(self.energy_j / self.seconds, 1) if self.seconds else round(watts, 1),
            "energy_wh": round(self.energy_j / 3600, 3),
            "temperature_c": temperature_c,
            "mean_temperature_c": round(self.degree_seconds / self.seconds, 1) if self.seconds else temperature_c,
            "max_temperature_c": max(self.hottest_c, temperature_c),
            "utilisation_percent": max(card[2] for card in cards),
            "memory_used_mib": sum(card[3] for card in cards),
            "memory_total_mib": sum(card[4] for card in cards),
        }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
