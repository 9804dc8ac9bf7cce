"""The Trainer of Lightning, as `lightning.pytorch` or `pytorch_lightning`: every `fit()` is a run.

>>> from energyprof.integrations.lightning import EnergyMonitor
>>> trainer = Trainer(callbacks=[EnergyMonitor("finetune")])
>>> trainer.fit(module, loader)

Training batches are the run's steps; beside them are the regions ``validation`` and ``sanity_check``. At the
end the trainer's loggers get ``energy/joules`` and the like.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from energyprof.integrations.follower import Follower, guarded
from energyprof.session import rank_facts

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
elif "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback  # the program's own choice where both are installed
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback


class EnergyMonitor(Callback):
    """Measures each `fit()` of the Trainer that it is given to.

    A fit inside a profile, or under `energyprof run`, is a region of the outer run.

    Parameters
    ----------
    name
        What the runs are called.
    log_result
        After a fit wait for the figures (a second or two, 30 s at most) and log them: ``energy/joules``,
        ``energy/u95_joules``, ``energy/co2e_g``, ``energy/duration_s``; on global rank zero alone, and
        not after a fit that raised.
    **options
        Those of `energyprof.profile`: country, tags, out …

    Raises
    ------
    ValueError
        A wrong option; before anything is trained.
    """

    def __init__(self, name: str = "fit", *, log_result: bool = True, **options: Any) -> None:
        self.follower = Follower(name, options, ends_surely=True)
        self._log_result = log_result

    @guarded
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Meters are the node's. Ranks that can find each other share one run; those of Lightning's own
        # launcher cannot, and the first of the node measures for all.
        if trainer.local_rank == 0 or rank_facts():
            self.follower.begin()

    @guarded
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.follower.expect(_batches_to_come(trainer))

    @guarded
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.follower.begin_step()

    @guarded
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.follower.end_step()

    @guarded
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.follower.begin_region("sanity_check" if trainer.sanity_checking else "validation")

    @guarded
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.follower.end_region("sanity_check", "validation")

    @guarded
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.follower.end()
        if self._log_result and trainer.is_global_zero and trainer.loggers:
            figures = self.follower.figures()
            for logger in trainer.loggers if figures else ():
                logger.log_metrics(figures, step=trainer.global_step)

    @guarded
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.follower.end(failed=True)

    @guarded
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.follower.end()  # where a tuner left the fit early: no hook of its own


def _batches_to_come(trainer: Trainer) -> float:
    """Training batches of this fit, as epochs and steps limit them; infinite where neither does."""
    endless = float("inf")
    epochs = endless if trainer.max_epochs in (None, -1) else trainer.max_epochs - trainer.current_epoch
    batches = float(trainer.num_training_batches) * epochs
    # `max_steps` counts steps of the optimizers.
    if trainer.max_steps > 0 and len(trainer.optimizers) == 1:
        batches = min(batches, (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    return batches
