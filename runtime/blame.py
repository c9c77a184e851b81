"""Blame: finds the command that ends its process, among all that were on their way when a target was lost.

Most crashes are no command's fault, so the first loss is forgiven: everything goes again as it went. What is lost twice
goes alone: the target runs nothing else meanwhile, of no client, and starts it only once its client knows that. A crash
is counted only then, and only when the target that comes back is another incarnation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventray.runtime.lanes import Job

CRASHES_MAX = 3  # that a command has caused, running alone; then it is not sent again
LOSSES_TOGETHER_MAX = 2  # in company; then it goes alone


class _Case:
    """What one job was part of."""

    __slots__ = ("alone", "crashes", "epoch", "losses")

    def __init__(self) -> None:
        self.losses = 0
        self.crashes = 0
        self.epoch = 0  # of the incarnation that was lost last
        self.alone = False  # it ran there, and nothing else did


class Blame:
    """The jobs of one link that were lost and are not answered yet."""

    def __init__(self) -> None:
        self.cases: dict[Job, _Case] = {}
        self._open: list[Job] = []  # lost; whether the target died is known when it answers again

    def lost(self, job: Job, epoch: int, *, alone: bool) -> None:
        """The incarnation `epoch` was lost while it had this job; `alone`: it surely ran it, and nothing else."""
        if job.poison is None:
            return
        case = self.cases.setdefault(job, _Case())
        case.epoch, case.alone = epoch, alone
        self._open.append(job)

    def judge(self, epoch: int) -> list[Job]:
        """The target answers as `epoch`: count, and give the jobs that have ended it too often."""
        jobs, self._open = self._open, []
        guilty = []
        for job in jobs:
            case = self.cases.get(job)
            if case is None or case.epoch == epoch:  # it lives: only the way to it was lost
                continue
            case.losses += 1
            case.crashes += case.alone
            if case.crashes >= CRASHES_MAX:
                guilty.append(job)
        return guilty

    def suspect(self, at_hand: Callable[[Job], bool]) -> Job | None:
        """A job that has to go alone, of those at hand: the one that has crashed least."""
        chosen, fewest = None, CRASHES_MAX
        for job, case in self.cases.items():
            if case.losses >= LOSSES_TOGETHER_MAX and case.crashes < fewest and at_hand(job):
                chosen, fewest = job, case.crashes
                if not fewest:
                    break
        return chosen

    def forget(self, job: Job) -> None:
        """It has ended."""
        self.cases.pop(job, None)
