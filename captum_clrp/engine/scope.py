"""Which module is running, and which rule a user set for it.

It is learnt from process-wide module hooks, registered for the duration of the forward pass and answering to the calling
thread alone, so that no module of the user's model is touched.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from captum_clrp.engine._captum import PropagationRule


def own_rule(module: nn.Module) -> PropagationRule | None:
    """What was assigned as ``module.rule``; ``getattr`` of modules is slow in failing."""
    rule = vars(module).get("rule") or getattr(type(module), "rule", None)
    return rule if rule is not None and isinstance(rule, PropagationRule) else None


class Scope:
    """The modules that run, from the outermost to the innermost.

    Attributes:
        running: Those modules.
        unused_rules: Modules with a rule that no operation took so far.

    Args:
        names: Name of each module of the model.
    """

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        self.running: list[nn.Module] = []
        self._ruled = {module: rule for module in names if (rule := own_rule(module)) is not None}
        self.unused_rules = list(self._ruled)
        self._rules: list[tuple[PropagationRule, nn.Module] | None] = []
        self._names = names
        self._modules = {name: module for module, name in names.items()}
        self._holders: dict[int, nn.Module] = {}
        if self.unused_rules:
            for module in reversed(list(names)):
                self._holders.update((id(p), module) for p in module.parameters(recurse=False))

    @property
    def innermost(self) -> nn.Module | None:
        """The module that is running itself."""
        return self.running[-1] if self.running else None

    @property
    def name(self) -> str:
        """Name of the module that is running, as in ``named_modules``."""
        if not self.running:
            return "(model)"
        return self._names.get(self.running[-1]) or f"({type(self.running[-1]).__name__})"

    def rule(self, weight: Tensor | None = None) -> tuple[PropagationRule, nn.Module] | None:
        """The rule of the innermost running module that carries one (Captum's ``module.rule`` convention).

        Args:
            weight: That of a weighted operation: the module that holds it counts as running, and modules around that, even if
                only their ``forward`` was called.
        """
        found = self._rule_around(weight) if weight is not None and self._holders else None
        if found is None:
            return self._rules[-1] if self._rules else None
        if found[1] in self.unused_rules:
            self.unused_rules.remove(found[1])
        return found

    def _rule_around(self, weight: Tensor) -> tuple[PropagationRule, nn.Module] | None:
        """The rule of the module that holds a weight, else of the innermost one around it within the running one."""
        holder, running = self._holders.get(id(weight)), self.running[-1:]
        if any(parameter is weight for module in running for parameter in module.parameters(recurse=False)):
            holder, running = running[0], self.running[-2:-1]
        if holder is None:
            return None
        name, limit = self._names.get(holder, ""), "".join(self._names.get(module, "") for module in running)
        rule = own_rule(holder)
        while rule is None and name != limit and f"{name}.".startswith(f"{limit}." if limit else ""):
            name = name.rpartition(".")[0]
            holder = self._modules[name]
            rule = own_rule(holder)
        return None if rule is None else (rule, holder)

    @contextlib.contextmanager
    def followed(self, after: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
        """Follow which module runs; ``after`` may replace its output."""
        thread = threading.get_ident()

        def enter(module: nn.Module, inputs: Any) -> None:
            if threading.get_ident() == thread:
                rule = self._ruled.get(module) if module in self._names else own_rule(module)
                around = self._rules[-1] if self._rules else None
                self.running.append(module)
                self._rules.append(around if rule is None else (rule, module))
                if rule is not None and module in self.unused_rules:
                    self.unused_rules.remove(module)

        def leave(module: nn.Module, inputs: Any, output: Any) -> Any:
            if threading.get_ident() != thread:
                return None
            if self.running and self.running[-1] is module:
                self.running.pop()
                self._rules.pop()
            return None if output is None else after(module, output)  # no output: the module failed

        handles: list[RemovableHandle] = []
        try:
            handles.append(register_module_forward_pre_hook(enter))
            handles.append(register_module_forward_hook(leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.running.clear()
            self._rules.clear()
