"""FLOPs per layer: what a model's operators compute, counted as it runs or from its trace.

One unit everywhere: a floating-point operation; a multiply-accumulate is two of them. Matrix products,
convolutions, attention and recurrent cells count; elementwise operations, norms and softmax do not (they are
bound by memory, and every published formula leaves them out: Kaplan et al. 2020; Chowdhery et al. 2022).

`counting` counts what is executed, forward, backward and recomputed; `static` reports a forward trace of
fvcore with operator handles of ours; `peaks` and `efficiency` set either against a device.
"""
