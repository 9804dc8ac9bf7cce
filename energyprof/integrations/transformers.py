"""The Trainer of Hugging Face transformers: every `train()` is a run.

>>> from energyprof.integrations.transformers import EnergyCallback
>>> trainer = Trainer(model, arguments, train_dataset=data, callbacks=[EnergyCallback("finetune")])
>>> trainer.train()
>>> trainer.state.log_history[-1]["energy/joules"]

Optimizer steps are the run's steps. Inside a step are the regions ``substep`` (forward and backward of one
batch, gradient clipping with the last) and ``optimizer``; beside the steps is ``evaluate``. What lies
between steps (loading batches, logging, saving) belongs to the run alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from energyprof.integrations.follower import Follower, guarded

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class EnergyCallback(TrainerCallback):
    """Measures each `train()` of the Trainer that it is given to.

    A training inside a profile of yours is a region of that profile, and its figures are in that profile's
    result alone; one under `energyprof run` is a region of the outer run.

    The Trainer tells nobody of an exception. The run of a training that raised is closed, as failed, by the
    next training that is measured, by `%energy`, or by the program's end; at once where the callback is a block:
    ``with EnergyCallback() as energy: Trainer(..., callbacks=[energy]).train()``.

    Parameters
    ----------
    name
        What the runs are called.
    log_result
        After training wait for the figures (a second or two, 30 s at most) and append them to
        `trainer.state.log_history`: ``energy/joules``, ``energy/u95_joules``, ``energy/co2e_g``,
        ``energy/duration_s``; on world process zero alone.
    **options
        Those of `energyprof.profile`: country, tags, out …

    Raises
    ------
    ValueError
        A wrong option; before anything is trained.
    """

    def __init__(self, name: str = "train", *, log_result: bool = True, **options: Any) -> None:
        self.follower = Follower(name, options, ends_surely=False)
        self._log_result = log_result

    def __enter__(self) -> EnergyCallback:
        return self

    @guarded
    def __exit__(self, kind: object, *exc: object) -> None:
        self.follower.end(failed=kind is not None)

    @guarded
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.begin()
        self.follower.expect(state.max_steps - state.global_step)  # a training that goes on has fewer to come
        if getattr(args, "eval_on_start", False):
            self.follower.begin_region("evaluate")

    @guarded
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end_region("evaluate")  # was announced and did not come
        self.follower.begin_step()
        self.follower.begin_region("substep")

    @guarded
    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end_region("substep")
        self.follower.begin_region("substep")

    @guarded
    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end_region("substep")
        self.follower.begin_region("optimizer")

    @guarded
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end_region("optimizer")

    @guarded
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end_region("substep", "optimizer")
        self.follower.end_step()
        self._await_evaluation(control)

    @guarded
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._await_evaluation(control)

    @guarded
    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end_region("evaluate")

    @guarded
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.follower.end()
        if self._log_result and state.is_world_process_zero:
            figures = self.follower.figures()
            if figures:
                state.log_history.append({**figures, "epoch": state.epoch, "step": state.global_step})

    def _await_evaluation(self, control: TrainerControl) -> None:
        """The Trainer has no hook before an evaluation: it evaluates next where this flag is up."""
        self.follower.end_region("evaluate")
        if control.should_evaluate:
            self.follower.begin_region("evaluate")
