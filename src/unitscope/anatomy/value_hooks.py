"""Hooks on the values of a network: each operation's value, by name, as it comes to be.

Problem: a residual sum is the output of no module, so that no module hook sees it; and a name must be the same in every
pass, and the one that torchvision gives.

Idea: two instruments at once. Functions (`x + y`, `F.relu(x)`) are seen by a TorchFunctionMode; modules of torch.nn are
one operation each, and have a hook before and after. A counter gives the names (node_names.py). All hooks are gone when
the `with` block ends, whatever happened inside the block.

    y = self.conv(x)        module hook           "conv"
    y = y + x               function mode         "add"
    y[:, 0] = 0             function mode         no name yet: the value is written to in parts
    z = self.relu(y)        module hook           "setitem" for y, now that y is read, then "relu"

With module_hooks.py the only file that touches a network while the network runs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.inference import without_inference_mode
from unitscope.anatomy.node_names import (
    Counting,
    caller,
    function_name,
    is_leaf,
    is_whole,
    kind_of,
    operation_of,
    paths_of,
)
from unitscope.anatomy.operations import kind
from unitscope.anatomy.sizes import counted
from unitscope.errors import BadInput
from unitscope.pristine import keep_pristine

Receive = Callable[[str, Tensor], Tensor | None]
"""Called with a site's name and its value; a tensor that it returns takes the value's place."""

NoteReads = Callable[[str, str, tuple[Tensor, ...], Tensor], None]
"""Called before `Receive` with the name, the operation's plain word, the tensors that it read, and the value."""


@contextmanager
def hook_values(
    module: nn.Module, receive: Receive, *, note_reads: NoteReads | None = None, pristine: bool = True
) -> Iterator[ValueHooks]:
    """While open, `receive(name, value)` is called for each value that `module` computes, in the order of execution.

    Yields the hooks. While `receive` runs, their `part` is the module whose output the value is; None for the result of
    a function.

    The value is handed over before anything can overwrite it, and must be reduced or copied at once: in-place
    operations will change it. A tensor returned by `receive` takes the value's place from there on (with gradients,
    where they are enabled). An exception raised by `receive` ends the forward pass and comes out of it.

    Afterwards the network is as it was: what it changed in itself when it ran is put back (with `pristine` False it is
    not), and so are the random states.

    Values that do not depend on the network's input or parameters have no name, nor have values that are computed
    inside a module of torch.nn. Raises BadInput for nn.DataParallel on several devices, whose replicas run in other
    threads, and for the meta device.
    """
    refuse_replicas(module)
    refuse_without_weights(module)
    hooks = ValueHooks(module, receive, note_reads)
    with ExitStack() as stack:
        stack.enter_context(without_inference_mode())
        if "torch._dynamo" in sys.modules:  # compiled parts run as they were written
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if pristine:
            stack.enter_context(keep_pristine(module))
        # Before `attach`: hooks are taken away also where attaching fails half way.
        stack.callback(hooks.leave)
        hooks.attach()
        stack.enter_context(hook_wrapped_functions(hooks))
        stack.enter_context(hooks)
        yield hooks


def refuse_replicas(module: nn.Module) -> None:
    for path, part in module.named_modules():
        if isinstance(part, nn.DataParallel) and len(part.device_ids) > 1:
            place = f"`model.{path} = model.{path}.module`" if path else "`model.module`"
            devices = f"{len(part.device_ids)} devices"
            raise BadInput(
                f"{path or 'the network'} is wrapped in nn.DataParallel on {devices}, whose copies run in threads that "
                f"cannot be listened to; use what is wrapped, on one device: {place}."
            )


def refuse_without_weights(module: nn.Module) -> None:
    """Raises BadInput for a network on the meta device: it has shapes, and no numbers."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise BadInput(
                f"{name} is on the meta device, where tensors have a shape and no numbers. Give the network its "
                "weights first, for instance by `module.to_empty(device='cpu')` and `module.load_state_dict(...)`."
            )


class ValueHooks(TorchFunctionMode):
    """Knows which module is running, gives the names, and passes the values on."""

    def __init__(self, root: nn.Module, receive: Receive, note_reads: NoteReads | None) -> None:
        super().__init__()
        self.root, self.receive, self.note_reads = root, receive, note_reads
        self.paths = paths_of(root)
        self.part: nn.Module | None = None  # the module that gave the value which is passed on
        self.handles: list[Any] = []
        self.script: ScriptHooks | None = None
        # For torch.fx the inputs are nodes of the graph: their names are taken.
        self.inputs = tuple(inspect.signature(root.forward).parameters) if not is_scripted(root) else ()
        self.begin()

    def begin(self) -> None:
        """Forget the last forward pass."""
        self.counting = Counting(self.inputs)
        self.trail: list[nn.Module] = []
        self.within = False  # inside a leaf, whose own operations have no names
        self.busy = False  # what `receive` computes is not the network's
        self.derived = WeakIdKeyDictionary()
        self.versions = WeakIdKeyDictionary()  # of each named value, when it was passed on
        self.assembled = WeakIdKeyDictionary()  # what was written into a value since, by the value
        self.left_torch = False

    # modules

    def attach(self) -> None:
        """Put a hook before and after each module that has a name of its own."""
        hidden: set[nn.Module] = set()
        for module in self.paths:
            if module in hidden:
                continue
            if is_leaf(module) or is_scripted(module):
                hidden.update(part for part in module.modules() if part is not module)
            # `always_call`: after an error, too, the trail must end empty, so that the next pass begins anew.
            before, after = nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook
            self.handles.append(before(module, self.enter, with_kwargs=True, prepend=True))
            self.handles.append(after(module, self.exit, with_kwargs=True, always_call=True))

    def leave(self) -> None:
        """Take all hooks away."""
        for handle in self.handles:
            handle.remove()
        self.leave_script()
        self.begin()

    def leave_script(self) -> None:
        if self.script is not None:
            script, self.script = self.script, None
            script.__exit__(None, None, None)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.busy:
            return None
        if not self.trail:
            self.begin()
            for tensor in tensors_within((args, kwargs)):
                self.derived[tensor] = True
        read = None if self.within or not self.trail else self.name_changed((args, kwargs))
        self.trail.append(module)
        self.within = is_leaf(module) or is_scripted(module)
        if is_scripted(module):
            self.script = ScriptHooks(self)
            self.script.__enter__()
        return read

    def exit(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.busy or module not in self.trail:
            return None
        while self.trail[-1] is not module:
            self.trail.pop()
        passes_on = not (is_leaf(module) or is_whole(module) or is_scripted(module))
        # Before the module leaves the trail: the name of what was written in it begins with its path.
        whole = self.name_changed(output) if passes_on else None
        self.trail.pop()
        self.leave_script()
        self.within = bool(self.trail) and is_leaf(self.trail[-1])
        if self.within or output is None or not (is_leaf(module) or is_whole(module)):
            return whole
        read = tuple(tensors_within((args, kwargs)))
        operation = kind_of(module).__name__
        name = self.counting.name(self.paths[module] or operation_of(operation))
        self.part = module
        try:
            return self.pass_on_result(name, operation, read, output)
        finally:
            self.part = None

    # functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.within or self.busy or not self.trail:
            return func(*args, **kwargs)
        # A value that was written to in parts gets its name before anything reads it.
        if not reads_no_values(function_name(func, None)):
            args, kwargs = self.name_changed((args, kwargs)) or (args, kwargs)
        result = func(*args, **kwargs)
        read = tuple(tensors_within((args, kwargs)))
        if not self.depends(read):
            return result
        function = function_name(func, caller())
        self.left_torch |= kind(function).leaves_torch
        self.note_written(function, args, read, result)
        if function == "setitem":  # what is written to has its name when it is read
            return result
        value = self.pass_on_result(self.counting.name(self.here, function), function, read, result)
        # An operation in place gave back its operand. Others hold that same tensor, and must see what took its place.
        if value is not result and isinstance(result, Tensor) and any(tensor is result for tensor in read):
            overwrite(result, value)
            self.remember(result)
        return value

    def call_wrapped(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function that torch.fx takes for one operation."""
        if self.within or self.busy or not self.trail:
            return function(*args, **kwargs)
        self.within = True
        try:
            result = function(*args, **kwargs)
        finally:
            self.within = False
        name = function_name(function, None)
        return self.pass_on_result(
            self.counting.name(self.here, name), name, tuple(tensors_within((args, kwargs))), result
        )

    # values that are written to in parts

    def note_written(self, function: str, args: Any, read: tuple[Tensor, ...], result: Any) -> None:
        """Remember a value of which a part was overwritten: by `x[...] = y`, or in place through a view."""
        target = args[0] if args and isinstance(args[0], Tensor) else None
        if target is None or not (function == "setitem" or (result is target and target._base is not None)):
            return
        # Written through a view, the tensor that the view is of has changed, too.
        whole = target if target._base is None else target._base
        for value in {id(target): target, id(whole): whole}.values():
            if function == "setitem" or value is not target:
                self.assembled.setdefault(value, []).extend(tensor for tensor in read if tensor is not value)

    def name_changed(self, values: Any) -> Any:
        """Name what is about to be read: a value that was written to in parts is then a value of its own, `setitem`.

        Gives the values with replacements, None where there are none.
        """
        changed = {id(t): t for t in tensors_within(values) if t in self.assembled or self.is_changed(t)}
        named = {one: self.name_written(tensor) for one, tensor in changed.items()}
        if all(named[one] is tensor for one, tensor in changed.items()):
            return None
        return tree_map_only(Tensor, lambda tensor: named.get(id(tensor), tensor), values)

    def is_changed(self, tensor: Tensor) -> bool:
        return tensor in self.versions and self.versions[tensor] != version_of(tensor)

    def name_written(self, tensor: Tensor) -> Tensor:
        read = (*self.assembled.pop(tensor, []), tensor)
        return self.pass_on(self.counting.name(self.here, "setitem"), "setitem", read, tensor)

    # values

    @property
    def part_path(self) -> str:
        """The path of the module whose output is being passed on; "" for a function's result."""
        return "" if self.part is None else self.paths[self.part]

    def depends(self, read: tuple[Tensor, ...]) -> bool:
        """Whether an operation has a name: it reads what comes from the picture, a parameter, or what may have come
        back from outside torch.
        """
        return any(t in self.derived or isinstance(t, nn.Parameter) for t in read) or (self.left_torch and bool(read))

    @property
    def here(self) -> str:
        """The path of the module that is running."""
        return self.paths.get(self.trail[-1], "") if self.trail else ""

    def pass_on_result(self, name: str, operation: str, read: tuple[Tensor, ...], value: Any) -> Any:
        """Pass a named value on and return what is to be used in its place."""
        if isinstance(value, Tensor):
            return self.pass_on(name, operation, read, value)
        # For torch.fx an element of a tuple gets a name (`getitem`) when it is taken out, and not before.
        if isinstance(value, tuple):
            return Items.of(value, self.item)
        # A size has arithmetic with names. What int(x) gives (`__int__`) is a plain number.
        return counted(value, self) if type(value) is int and not operation.startswith("__") else value

    def pass_on(self, name: str, operation: str, read: tuple[Tensor, ...], value: Tensor) -> Tensor:
        self.busy = True
        try:
            if self.note_reads is not None:
                self.note_reads(name, operation_of(operation), read, value)
            with torch._C.DisableTorchFunction():  # what `receive` computes has no name
                replacement = self.receive(name, value)
        finally:
            self.busy = False
        value = value if replacement is None else replacement
        self.remember(value)
        return value

    def remember(self, value: Tensor) -> None:
        """A value is named, as it is now."""
        self.derived[value] = True
        self.versions[value] = version_of(value)

    def item(self, value: Any, whole: tuple[Any, ...]) -> Any:
        """Name one element taken out of a tuple, as torch.fx does: `getitem`."""
        if self.within or self.busy or not self.trail:
            return value
        return self.pass_on_result(
            self.counting.name(self.here, "getitem"), "getitem", tuple(tensors_within(whole)), value
        )

    def arithmetic(self, word: str, result: Any) -> Any:
        """Count an operation on sizes, which has a name but is no site."""
        if self.within or self.busy or not self.trail:
            return result
        self.counting.name(self.here, word)
        return counted(result, self)


class ScriptHooks(TorchDispatchMode):
    """Sees the operations inside a scripted module, where Python sees nothing; they have the dispatcher's names."""

    def __init__(self, hooks: ValueHooks) -> None:
        super().__init__()
        self.hooks = hooks

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        hooks = self.hooks
        read = tuple(tensors_within((args, kwargs)))
        if hooks.busy or not any(tensor in hooks.derived for tensor in read):
            return result
        word = operation_of(func._schema.name.split("::")[-1])
        first = result[0] if isinstance(result, tuple) else result
        if not isinstance(first, Tensor):
            return result
        value = hooks.pass_on(hooks.counting.name(hooks.here, word), word, read, first)
        return (value, *result[1:]) if isinstance(result, tuple) else value


@contextmanager
def hook_wrapped_functions(hooks: ValueHooks) -> Iterator[None]:
    """While open, functions under `torch.fx.wrap` (Swin's `shifted_window_attention`) are operations, as they are for
    torch.fx.

    They are replaced where torch.fx replaces them while it traces: in the globals of the module that wrapped them.
    """
    tracing = sys.modules.get("torch.fx._symbolic_trace")
    places = getattr(tracing, "_wrapped_fns_to_patch", {})
    originals = [(scope, name, scope[name]) for (_, name), scope in places.items() if callable(scope.get(name))]
    for scope, name, function in originals:
        scope[name] = partial(hooks.call_wrapped, function)
    try:
        yield
    finally:
        for scope, name, function in originals:
            scope[name] = function


def reads_no_values(function: str) -> bool:
    """Whether a function gives a property of a tensor or a view of it, or writes to a part of it."""
    return kind(function).metadata or kind(function).view or function == "setitem"


class Items(tuple[Any, ...]):
    """A tuple that calls `taken` when an element is taken out of it. In all else it is the tuple that it was."""

    whole: tuple[Any, ...]
    taken: Callable[[Any, tuple[Any, ...]], Any]

    @classmethod
    def of(cls, whole: tuple[Any, ...], taken: Callable[[Any, tuple[Any, ...]], Any]) -> Items:
        items = cls(whole)
        items.whole, items.taken = whole, taken
        return items

    def __getitem__(self, index: Any) -> Any:
        return self.taken(super().__getitem__(index), self.whole)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __reduce__(self) -> Any:
        return (tuple, (tuple(self.whole),))


def tensors_within(values: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries; reading them from `Items` gives no names."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Items):
        yield from tensors_within(values.whole)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors_within(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_within(value)


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to; 0 for one made in inference mode, where torch does not count."""
    # Else reading `_version` would itself be an operation with a name.
    with torch._C.DisableTorchFunction():
        return 0 if tensor.is_inference() else tensor._version


def overwrite(value: Tensor, replacement: Tensor) -> None:
    """After an in-place operation those who hold the tensor itself must find the replacement, too.

    With gradients the operation may still need its result, and the replacement counts where the value is used by its
    new name.
    """
    if not (torch.is_grad_enabled() and value.requires_grad):
        value.copy_(replacement)


def is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)
