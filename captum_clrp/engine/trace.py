"""Recording one forward pass of an unmodified model.

The model runs under a ``TorchFunctionMode``: every operation on a tensor that depends on the inputs is looked up in
:data:`captum_clrp.engine.operations.TABLE`. Operations with a rule run their ordinary forward inside one autograd function
whose backward is the rule; operations that only move values keep their own gradient, which routes relevance correctly.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from captum_clrp.composites import Structure
from captum_clrp.engine._torch import (
    DisableTorchFunction,
    TorchDispatchMode,
    base_of,
    get_grad_fn,
    kernels_are_watched,
    own_parameters,
    set_grad_enabled,
    unrelated_grad_fn,
    without_python_kernels,
)
from captum_clrp.engine.calls import Call
from captum_clrp.engine.graph import means_behind
from captum_clrp.engine.marks import Info, Marks, depends_on_input, info_of, is_marked
from captum_clrp.engine.nested import flatten
from captum_clrp.engine.nodes import Node, Pooling, Refused, Saved
from captum_clrp.engine.refusals import Refusal, Refusals
from captum_clrp.engine.scope import Scope
from captum_clrp.engine.settings import Settings


class _Propagate(torch.autograd.Function):
    """An operation with its own forward and with relevance for a backward.

    A tensor that is overwritten without a share of its own comes first: for views PyTorch takes the first input for the
    one that is overwritten.
    """

    @staticmethod
    def forward(ctx: Any, node: Node, run: Callable[[], Tensor], overwritten_first: bool, *tensors: Tensor) -> Tensor:
        ctx.node = node
        ctx.overwritten_first = overwritten_first
        output = run()
        if base_of(output) is not None and all(t is not output for t in tensors):
            with DisableTorchFunction():  # other types of tensors would make a view of the copy
                output = output.clone()  # some kernels return views, which nobody could write to later
        ctx.mark_dirty(*(t for t in tensors if t is output))
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor | None) -> tuple[Tensor | None, ...]:
        (arrived,) = relevance
        inputs = len(ctx.needs_input_grad)
        if arrived is None:
            return (None,) * inputs
        grads = (*((None,) * (4 if ctx.overwritten_first else 3)), *ctx.node.backward(arrived))
        return (*grads, *((None,) * (inputs - len(grads))))


_PLAIN = frozenset((Tensor, nn.Parameter))

_NOTHING = contextlib.nullcontext()


class _Outside(TorchDispatchMode):
    """Notices kernels that work on the signal without having passed through a torch function.

    Scripted functions, ``torch.vmap`` and C++ extensions do that; their results would count as constants. It sleeps
    while a torch function is handled.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self._trace.handling and any(depends_on_input(value) for value in flatten((args, kwargs or {}))):
            self._trace.refuse(
                str(func),
                "called outside torch functions (by a scripted function, torch.vmap or C++ code), where it cannot be "
                "followed; call torch functions directly",
            )
        with DisableTorchFunction():
            return func(*args, **(kwargs or {}))


_GRADIENT_HOOKS = (Tensor.register_hook, Tensor.retain_grad)


class Trace(TorchFunctionMode):
    """One recorded forward pass.

    Attributes:
        nodes: Recorded operations in the order in which they ran.
        refusals: Operations that have no rule.
        marks: What is known of the tensors that depend on the inputs.
        low_precision: Whether relevance is computed in bfloat16 where it can be.

    Args:
        names: Name of each module.
        settings: The user's choices.
        run_operation: ``run_operation(trace, func, args, kwargs)`` runs and records one torch function.
    """

    def __init__(self, names: Mapping[nn.Module, str], settings: Settings, run_operation: Callable[..., Any]) -> None:
        super().__init__()
        self._run_operation = run_operation
        self.settings = settings
        self.nodes: list[Node] = []
        self.refusals = Refusals()
        self.marks = Marks()
        self.scope = Scope(names)
        self._parameters = {id(p) for module in names for p in own_parameters(module)}
        self._saved: dict[int, list[Saved]] = {}
        self.handling = False
        self.origins: set[Any] = set()
        self.structure = Structure()
        self.composite, self.why_composite = settings.rules, ""
        self.low_precision = False
        self._watched = kernels_are_watched()

    # -- what the operations ask ---------------------------------------------------------------------------------

    def note(self, **found: str) -> None:
        """Remember what decides ``rules="auto"``; the first of a kind counts."""
        self.structure = self.structure._replace(
            **{k: v for k, v in found.items() if getattr(self.structure, k) is None}
        )

    @property
    def takes_signed_rules(self) -> bool:
        """Whether the composite is known not to be the paper's, so that what its rules need is worth keeping."""
        return self.settings.rules.settled(self.structure)[0].linear.starts_with_output

    def settle(self, outputs: Sequence[Tensor]) -> None:
        """The network has run: choose the composite, and let each operation take its rule from it.

        Args:
            outputs: What the model returned, as far as it depends on the inputs.
        """
        if any(isinstance(node, Pooling) and node.reads for node in self.nodes):
            means = means_behind(outputs)
            for node in self.nodes:
                if isinstance(node, Pooling) and node.reads and node in means:
                    self.note(
                        signed_mean=f"{node.record.operation} in '{node.record.module}' of what {node.reads} gives"
                    )
        self.composite, self.why_composite = self.settings.rules.settled(self.structure)
        for node in self.nodes:
            node.settle(self.composite)

    def save(self, tensor: Tensor) -> Saved:
        """Keep a tensor for the backward pass, safe from being overwritten in place."""
        saved = Saved(tensor)
        self._saved.setdefault(tensor.untyped_storage().data_ptr(), []).append(saved)
        return saved

    def before_overwriting(self, tensor: Tensor) -> None:
        """Copy what was kept of a tensor that the model is about to overwrite."""
        for saved in self._saved.pop(tensor.untyped_storage().data_ptr(), ()):
            saved.tensor = saved.tensor.clone()

    def propagate(
        self,
        node: Node,
        run: Callable[[], Tensor],
        receivers: Sequence[Tensor],
        info: Info,
        overwritten: Tensor | None = None,
    ) -> Tensor:
        """Run an operation as ``node``; ``receivers`` get the shares of its backward.

        ``overwritten`` is a tensor that the operation works on in place without it being one of the receivers.
        """
        first = [] if overwritten is None else [overwritten]
        with torch.enable_grad():
            output: Tensor = _Propagate.apply(node, run, bool(first), *first, *receivers)
        self.nodes.append(node)
        return self.describe(output, info)

    def route(self, run: Callable[[], Any], info: Info) -> Any:
        """Run an operation whose own gradient routes relevance; what the gradient needs is safe from overwriting."""
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(self.save, lambda saved: saved.tensor):
            output = run()
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:  # not a constant that comes back as it is
                self.describe(tensor, info)
        return output

    def describe(self, tensor: Tensor, info: Info) -> Tensor:
        """Mark a tensor as computed from the inputs, with what is known of it."""
        return self.marks.set(tensor, info)

    def info(self, tensor: Tensor) -> Info:
        """What is known of a tensor that depends on the inputs."""
        return info_of(tensor)

    def after_overwriting(self, tensor: Tensor) -> None:
        """What was written to a view of a constant is in the constant as well."""
        base = base_of(tensor)
        if base is not None and base.requires_grad and not is_marked(base):
            self.describe(base, Info())

    def knows(self, tensor: Tensor) -> bool:
        """Whether a glance tells what it is: computed from the inputs, or a constant without a history."""
        if depends_on_input(tensor):
            return True
        kind = type(tensor)
        return (
            not is_marked(tensor)
            and (kind is Tensor or (kind is nn.Parameter and id(tensor) in self._parameters))
            and tensor.grad_fn is None
            and base_of(tensor) is None
            and not tensor.is_inference()
        )

    def may_be_another(self, tensor: Tensor) -> bool:
        """Whether it may be a marked tensor by another name, which :meth:`recognised` finds out."""
        if is_marked(tensor):
            return False
        if type(tensor) is nn.Parameter:
            return id(tensor) not in self._parameters
        return type(tensor) is not Tensor or ((base := base_of(tensor)) is not None and is_marked(base))

    def recognised(self, value: Any) -> Any:
        """A tensor that ``as_subclass`` made, of which PyTorch tells nobody, as the one that it was made from."""
        if not isinstance(value, Tensor) or not self.may_be_another(value):
            return value
        same = self.marks.same_memory(value)
        return value if same is None else same

    def check_origin(self, tensor: Tensor) -> None:
        """Refuse a tensor that comes from the inputs by a way that torch functions do not tell of."""
        if is_marked(tensor):
            if not tensor.requires_grad:
                self._refuse_lost(tensor)
        elif (base := base_of(tensor)) is not None and is_marked(base):
            self.describe(tensor, Info())  # a view from before its base was written to
        elif tensor.grad_fn is not None and self._comes_from_inputs(tensor):
            self.refuse(
                tensor.grad_fn.name().removesuffix("0").removesuffix("Backward"),
                "ran where it cannot be followed (a thread of the model's own, or C++ code); call torch functions "
                "in the thread of the model",
            )

    def _comes_from_inputs(self, tensor: Tensor) -> bool:
        seen, stack = set(), [tensor.grad_fn]
        while stack:
            function = stack.pop()
            if function is None or function in seen:
                continue
            if function in self.origins or isinstance(getattr(function, "node", None), Node):
                return True
            seen.add(function)
            stack.extend(following for following, _ in function.next_functions)
        return False

    # -- what is refused -----------------------------------------------------------------------------------------

    def refuse(self, operation: str, reason: str, *, linked: bool = False) -> Refusal:
        """Note an operation without a rule; the model runs on, so that one error can name them all.

        Args:
            operation: Its name.
            reason: Why it has no rule.
            linked: Whether its results stand in the graph (see :meth:`link`). It matters only if relevance would reach
                it then; otherwise always.
        """
        return self.refusals.note(Refusal(operation, self.scope.name, reason), anywhere=not linked)

    def link(
        self,
        refusal: Refusal,
        run: Callable[[], Tensor],
        receivers: Sequence[Tensor],
        overwritten: Tensor | None = None,
    ) -> Tensor:
        """Run a refused operation so that the graph knows where its result came from, as :meth:`propagate`."""
        first = [] if overwritten is None else [overwritten]
        if overwritten is not None and base_of(overwritten) is not None:
            self.refusals.note(refusal, anywhere=True)  # in the graph of the whole tensor it is out of sight
        with torch.enable_grad():
            output: Tensor = _Propagate.apply(Refused(refusal), run, bool(first), *first, *receivers)
        return self.describe(output, Info())

    def _refuse_lost(self, tensor: Tensor) -> None:
        """The result of a custom function: made from the inputs, but PyTorch has cut it off."""
        name, reason = (
            "custom torch.autograd.Function",
            "its result has lost its connection to the input; write it with torch functions instead (fused attention: "
            "torch.nn.functional.scaled_dot_product_attention)",
        )
        refusal = self.refuse(name, reason, linked=True)
        try:
            self.link(refusal, lambda: tensor, self.marks.roots_of(tensor), tensor)
        except RuntimeError:  # PyTorch does not let a view made without gradients be linked
            self.refuse(name, reason)

    # -- the mode --------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is set_grad_enabled:  # a model's own enable_grad would make constants depend on parameters
            return None
        if func in _GRADIENT_HOOKS and depends_on_input(args[0]):  # made for gradients, and relevance is none
            return RemovableHandle(OrderedDict()) if func is Tensor.register_hook else None
        if func == get_grad_fn and depends_on_input(args[0]):  # whose hooks are for gradients, too
            return unrelated_grad_fn()
        return self._run_operation(self, func, args, kwargs or {})

    def handle(self, handler: Callable[[Trace, Call], Any], call: Call) -> Any:
        """Let a handler work on a call; what it does inside is its own affair."""
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                return self.handle(handler, call)
        quiet = (
            without_python_kernels()
            if not self._watched and _PLAIN.issuperset(map(type, call.tensors))
            else _NOTHING  # the kernels of other types may need Python, and a mode of the user's may count them
        )
        before, self.handling = self.handling, True
        try:
            with quiet, torch.no_grad() if torch.is_grad_enabled() else _NOTHING:
                return handler(self, call)
        finally:
            self.handling = before

    @contextlib.contextmanager
    def recording(self, after: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
        """Record what runs within the ``with``; ``after`` sees what each module returns, and may replace it."""
        try:
            with self.scope.followed(after), _Outside(self), self:
                yield
        finally:
            self._saved.clear()
