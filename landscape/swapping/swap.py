"""Replace, remove or insert the normalization of a copy, place by place, and write down what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from landscape.errors import UsageError
from landscape.normalization import Normalization
from landscape.parameters import Selection, matches
from landscape.swapping.change import Action, Change
from landscape.swapping.fitting import (
    REFUSALS,
    aim,
    alike,
    as_found,
    exchanged,
    has_weights,
    laid,
    plain_weight,
    reason_of,
    told,
)
from landscape.swapping.flow import BENDING, MULTIPLYING, NORMALIZING, Flow
from landscape.swapping.kinds import (
    Units,
    built_in,
    fused,
    is_linear,
    is_nonlinear,
    is_norm,
    is_transposed_linear,
    linear_units,
    seen,
    unsupported,
    weight_norms,
)
from landscape.swapping.layers import Bent, Renormalized, follow, unfollow, untransposed
from landscape.swapping.layouts import by_position, nonlinearity_layout, norm_layout, unsure

#: Their own fast path reads the weights of their normalization layers, past the modules.
_FAST_PATH = nn.TransformerEncoderLayer


class Swap:
    """The changes to one model, made in place.

    Args:
        model: a copy that may be changed.
        chosen: the normalization.
        where: which places, by name.
        flow: what is known of its forward.

    Attributes:
        changes: what was done, in the order of the model's modules.
        weighted: whether a normalization of weights acts on some weight.
        model: the model, or what stands in its place if it was a normalization layer itself.
    """

    def __init__(self, model: nn.Module, chosen: Normalization, where: Selection, flow: Flow) -> None:
        self.model, self.chosen, self.where, self.flow = model, chosen, where, flow
        self.modules = dict(model.named_modules())
        self.changes: list[Change] = []
        self.weighted = False
        self._new: dict[nn.Module, nn.Module] = {}
        self._inside = [name for name, module in self.modules.items() if isinstance(module, Renormalized | Bent)]
        self.norms = {name: m for name, m in self._places() if is_norm(m)}
        self.linears = {name: m for name, m in self._places() if is_linear(m) or fused(m)}
        self._choose()
        owners = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
        self._shared = {one for one, count in owners.items() if count > 1}
        for name, module in self.modules.items():
            self._held(name, module)
            if name in self.norms:
                self._norm(name, module)
            elif name in self.linears and not built_in(module):
                self._linear(name, module)
        for name, module in self._places():
            if not matches(name, where):
                continue
            if reason := built_in(module):
                self._note(name, told(module), told(module), "can't", reason)
            elif is_nonlinear(module):
                self._nonlinearity(name, module)
        self._rebind()
        self._whole()

    def _places(self) -> Iterator[tuple[str, nn.Module]]:
        """All modules but those inside what an earlier swap or a parametrization has put there."""
        hidden = [name + "." if name else "" for name in self._inside]
        hidden += [name + "." if name else "" for name, module in self.modules.items() if fused(module)]
        for name, module in self.modules.items():
            inside = any(name.startswith(start) and name != start.rstrip(".") for start in hidden)
            if not inside and "parametrizations" not in name.split("."):
                yield name, module

    def _choose(self) -> None:
        """Narrow the places to those that ``where`` names, and to normalization layers if there are any."""
        norms = {name: m for name, m in self.norms.items() if matches(name, self.where)}
        linears = {name: m for name, m in self.linears.items() if matches(name, self.where)}
        if self.where is not None and not norms and not linears:
            known = ", ".join([*self.norms, *self.linears][:6])
            raise UsageError(
                f"where={self.where!r} names no normalization layer and no linear map or convolution of "
                f"{type(self.model).__name__}; these are called {known}..."
            )
        self.bare = not (norms if self.where is not None else self.norms)
        self.norms, self.linears = norms, linears

    def _note(self, name: str, before: str, after: str, action: Action, why: str) -> None:
        self.changes.append(Change(name, before, after, action, why))

    def _held(self, name: str, module: nn.Module) -> None:
        """A normalization of weights that stays, as it is not that of the weight of a linear map or convolution."""
        for tensor, kinds in weight_norms(module).items() if matches(name, self.where) else ():
            if tensor != "weight" or name not in self.linears or not is_linear(module):
                why = f"the {' and '.join(kinds)} of its {tensor} stays: take it away first"
                self._note(name, told(module), told(module), "can't", why)

    def _norm(self, name: str, old: nn.Module) -> None:
        """A normalization layer that is there."""
        before = told(old)
        if self._uncalled(name):
            self._note(name, before, before, "can't", "the forward never calls it")
            return
        units = norm_layout(name, old, self.flow, self.modules)
        if isinstance(units, str):
            if self.chosen.name != "none" or "layers" in units or "forward" in units:
                self._note(name, before, before, "can't", units)
                return
            units = Units(1, "last", 2)  # taken away, so how many units it has is all the same
        norm = self._built(name, before, units)
        if norm is None:
            return
        if not isinstance(norm, nn.Identity) and (alike(old, norm) or self._within(old, units)):
            self._note(name, before, before, "keep", f"it is {self.chosen.name} already, with its own settings")
            return
        new = Renormalized(as_found(norm, old, self.model), units, old).train(old.training)
        new.__dict__.update({key: hooks for key, hooks in vars(old).items() if key.endswith("_hooks") and hooks})
        self._new[old] = new
        if isinstance(norm, nn.Identity):
            lost = "; its running statistics are dropped" if getattr(old, "running_mean", None) is not None else ""
            weights = "; its weights are dropped, not folded into other layers" if has_weights(old) else ""
            self._note(name, before, "Identity()", "remove", f"{aim(self.chosen)}{weights}{lost}")
        else:
            self._note(name, before, told(new), "replace", f"a normalization layer{laid(units)}")

    def _uncalled(self, name: str) -> bool:
        return self.flow.source != "order" and name not in self.flow.called

    def _within(self, old: nn.Module, units: Units) -> bool:
        """Whether a normalization within a token or sample is asked for where one is, in whatever layout."""
        try:
            token = self.chosen.build(max(units.count, 2), 2)
        except REFUSALS:
            return False
        return isinstance(token, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm) and alike(old, token)

    def _built(self, name: str, before: str, units: Units) -> nn.Module | None:
        """The new normalization, or None: where it needs positions, it has to be seen whether there are any."""
        try:
            norm = self.chosen.build(units.count, units.ndim)
            if unsure(name, self.modules[name], self.flow, self.modules) and by_position(self.chosen, units.count):
                reason = f"whether {self.chosen.name} has positions to act on can't be seen here: give example="
                self._note(name, before, before, "can't", reason)
                return None
            rows = isinstance(norm, nn.Identity) and units == Units(units.count, "last", 2)
            unseen = rows and name not in self.flow.shapes
            if not unseen or isinstance(self.chosen.build(units.count, 3), nn.Identity):
                return norm
            reason = f"{aim(self.chosen)}, and whether there are positions here can't be seen: give example="
        except REFUSALS as error:
            reason = reason_of(error)
        self._note(name, before, before, "can't", reason)
        return None

    def _linear(self, name: str, old: nn.Module) -> None:
        """A linear map or convolution: what is wanted of it follows from the normalization and the model."""
        stale = weight_norms(old).get("weight", []) if is_linear(old) else []
        wanted = self.chosen.linear is not None or (self.bare and self.chosen.name != "none")
        if not stale and not wanted:
            return
        before = told(old)
        if stale:
            plain_weight(old)
            why = f"the {' and '.join(stale)} of its weight; the weight stays at its value at this moment"
            self._note(name, before, told(old), "remove", why)
        if not wanted:
            return
        before = told(old)
        if name in self.flow.outputs:
            guess = " (the last one registered: nothing could be run; give example=)"
            why = "the output layer" + (guess if self.flow.source == "order" else "")
            self._note(name, before, before, "keep", why)
        elif reason := self._refused(name, old):
            self._note(name, before, before, "can't", reason)
        else:
            self._normalize(name, before, old)

    def _refused(self, name: str, module: nn.Module) -> str:
        if reason := fused(module):
            return reason
        if self._uncalled(name):
            return "the forward never calls it; its weight may be read by a function"
        if self.chosen.linear is not None:
            if any(id(p) in self._shared for p in module.parameters(recurse=False)):
                return "its weight is tied to another module's, which would come apart"
            return unsupported(module)
        return "it has a child called norm already" if hasattr(module, "norm") else ""

    def _normalize(self, name: str, before: str, old: nn.Module) -> None:
        """Normalize its output, or its weight, or both, as the normalization says."""
        module = untransposed(old) if is_transposed_linear(old) and self.chosen.linear is not None else old
        norm: nn.Module | None = None
        if self.bare:
            units = seen(linear_units(old), self.flow.shapes.get(name))
            built = self._built(name, before, units)
            if built is None:
                return
            if not isinstance(built, nn.Identity):
                norm = Renormalized(as_found(built, old, self.model), units).train(old.training)
                follow(module, norm)
                self._note(name, before, told(norm), "insert", f"after a linear map{laid(units)}")
            elif self.chosen.linear is None and self.chosen.activation is None:
                self._note(name, before, before, "can't", aim(self.chosen))
        if self.chosen.linear is None:
            return
        try:
            new = self.chosen.linear(module)
        except REFUSALS as error:
            if norm is not None:
                unfollow(module)
                self.changes.pop()
            self._note(name, before, before, "can't", reason_of(error))
            return
        if new is not module and norm is not None:
            follow(new, norm)
        if new is not old:
            self._new[old] = new.train(old.training)
        self.weighted = True
        turned = "; its weight is stored transposed" if module is not old else ""
        self._note(name, before, told(new), "replace", f"{self.chosen.name} normalizes weights{turned}")

    def _nonlinearity(self, name: str, old: nn.Module) -> None:
        """A nonlinearity, for normalizations that bring or adjust one; one that such a swap has put there goes back."""
        before, first = told(old), vars(old)["replaces"] if isinstance(old, Bent) else old
        new: nn.Module = first
        if self.chosen.activation is not None and self._meant(name, before):
            units = nonlinearity_layout(name, self.flow, self.modules)
            try:
                bent = self.chosen.activation(first, *((units.count, units.ndim) if units else (2, 4)))
            except REFUSALS as error:
                self._note(name, before, before, "can't", reason_of(error))
                return
            own = sum(1 for _ in bent.parameters()) > sum(1 for _ in first.parameters())
            if own and units is None:
                why = (
                    f"{self.chosen.name} has values per unit, and how many units there are can't be seen; give example="
                )
                self._note(name, before, before, "can't", why)
                return
            if bent is not first:
                new = Bent(as_found(bent, first, self.model), units if own else None, first).train(old.training)
        if new is not old:
            self._new[old] = new
            why = f"{self.chosen.name} brings its own nonlinearity" if new is not first else "the one that was here"
            self._note(name, before, told(new), "replace", why)

    def _meant(self, name: str, before: str) -> bool:
        """Whether a nonlinearity is to be exchanged: all of them, or those that read a normalization's output."""
        if self.chosen.linear is not None:
            return self.weighted  # one without the other is half of it
        try:
            if isinstance(self.chosen.build(2, 4), nn.Identity):
                return True
        except REFUSALS:
            pass  # it normalizes activations, though not these
        places = {c.name for c in self.changes if c.action in ("replace", "insert", "keep")}
        read = self.flow.reads.get(name, {""})
        if read & places and not read <= places:
            why = "it is called in places that do not follow a normalization as well"
            self._note(name, before, before, "can't", why)
        return read <= places

    def _rebind(self) -> None:
        """Put the new modules wherever the old ones were: every name of each, also in plain lists and dicts."""
        for module in [*self.modules.values(), *self._new.values()]:
            if isinstance(module, _FAST_PATH) and self.changes:
                module.activation_relu_or_gelu = 0  # 0: its layers are called one by one
            for key, child in module._modules.items():
                if child in self._new and not isinstance(module, Renormalized):
                    module._modules[key] = self._new[child]
            for key, value in list(vars(module).items()):
                if key not in ("_modules", "_parameters", "_buffers") and isinstance(value, list | tuple | dict):
                    vars(module)[key] = exchanged(value, self._new)
        self.model = self._new.get(self.model, self.model)

    def _whole(self) -> None:
        """What concerns the model as a whole: functions in its forward, initial weights, what can't be seen."""
        watched: tuple[str, ...] = NORMALIZING
        watched += MULTIPLYING if self.bare and self.chosen.name != "none" else ()
        watched += BENDING if self.chosen.activation is not None else ()
        for name, function in self.flow.functions:
            if function in watched and matches(name, self.where):
                why = "called as a function in a forward, where no module can be exchanged"
                self._note(name, f"{function}(...)", f"{function}(...)", "can't", why)
        kind = type(self.model).__name__
        if self.flow.source == "order":
            why = "what its forward calls as functions can't be seen: it can't be traced; give example= to look"
            self._note("", kind, kind, "can't", why)
