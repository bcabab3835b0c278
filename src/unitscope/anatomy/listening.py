"""Listening to a network: each operation's value, by name, as it comes to be.

With tapping.py the only file that touches a network while it runs. Python functions are overheard by a
TorchFunctionMode, modules by hooks that are gone when the `with` block ends, whatever happened inside it. Names are
torchvision's (see names.py).
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
from torch.utils.weak import WeakIdKeyDictionary

from unitscope.anatomy.inference import without_inference_mode
from unitscope.anatomy.names import Counting, caller, function_name, is_leaf, is_whole, kind_of, operation_of, paths_of
from unitscope.anatomy.sizes import counted
from unitscope.errors import BadInput

Heard = Callable[[str, Tensor], Tensor | None]
"""Called with a site's name and its value; a tensor that it returns takes the value's place."""

Noted = Callable[[str, str, tuple[Tensor, ...], Tensor], None]
"""Called before `Heard` with the name, the operation's plain word, the tensors that it read, and the value."""


@contextmanager
def listening(module: nn.Module, heard: Heard, *, noted: Noted | None = None) -> Iterator[Ear]:
    """While open, `heard(name, value)` is called for each value that `module` computes, in the order of execution.

    Gives an ear, whose `part` meanwhile is the module whose output the value is, None for a function's result.

    The value is handed over before anything can overwrite it, and must be reduced or copied at once: in-place
    operations will change it. A tensor returned by `heard` takes the value's place from there on (with gradients, where
    they are enabled). An exception raised by `heard` ends the forward pass and comes out of it.

    Values that do not depend on the network's input or parameters have no name; what the modules of torch.nn do inside
    is theirs. Raises BadInput for nn.DataParallel, whose replicas run in other threads.
    """
    for part in module.modules():
        if isinstance(part, nn.DataParallel):
            raise BadInput(
                "the network is wrapped in nn.DataParallel, whose copies run in threads that cannot be listened to; "
                "pass the network itself: `model.module`."
            )
    ear = Ear(module, heard, noted)
    with ExitStack() as stack:
        stack.enter_context(without_inference_mode())
        if "torch._dynamo" in sys.modules:  # compiled parts run as they were written
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(ear.leave)
        ear.attach()
        stack.enter_context(wrapped_functions(ear))
        stack.enter_context(ear)
        yield ear


class Ear(TorchFunctionMode):
    """Knows which module is running, gives the names, and passes the values on."""

    def __init__(self, root: nn.Module, heard: Heard, noted: Noted | None) -> None:
        super().__init__()
        self.root, self.heard, self.noted = root, heard, noted
        self.paths = paths_of(root)
        self.part: nn.Module | None = None  # the module that gave the value which is passed on
        self.handles: list[Any] = []
        self.script: ScriptEar | None = None
        self.inputs = tuple(inspect.signature(root.forward).parameters) if not is_scripted(root) else ()
        self.begin()

    def begin(self) -> None:
        """Forget the last forward pass."""
        self.counting = Counting(self.inputs)
        self.trail: list[nn.Module] = []
        self.within = False  # inside a leaf, whose own operations have no names
        self.busy = False  # what `heard` computes is not the network's
        self.derived = WeakIdKeyDictionary()

    # modules

    def attach(self) -> None:
        """Put a hook before and after each module that has a name of its own."""
        hidden: set[nn.Module] = set()
        for module in self.paths:
            if module in hidden:
                continue
            if is_leaf(module) or is_scripted(module):
                hidden.update(part for part in module.modules() if part is not module)
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

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.busy:
            return
        if not self.trail:
            self.begin()
            for tensor in tensors((args, kwargs)):
                self.derived[tensor] = True
        self.trail.append(module)
        self.within = is_leaf(module) or is_scripted(module)
        if is_scripted(module):
            self.script = ScriptEar(self)
            self.script.__enter__()

    def exit(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.busy or module not in self.trail:
            return None
        while self.trail.pop() is not module:
            pass
        self.leave_script()
        self.within = bool(self.trail) and is_leaf(self.trail[-1])
        if self.within or output is None or not (is_leaf(module) or is_whole(module)):
            return None
        read = tuple(tensors((args, kwargs)))
        operation = kind_of(module).__name__
        name = self.counting.name(self.paths[module] or operation_of(operation))
        self.part = module
        try:
            return self.named(name, operation, read, output)
        finally:
            self.part = None

    # functions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.within or self.busy or not self.trail:
            return result
        read = tuple(tensors((args, kwargs)))
        if not any(tensor in self.derived or isinstance(tensor, nn.Parameter) for tensor in read):
            return result
        function = function_name(func, caller())
        value = self.named(self.counting.name(self.here, function), function, read, result)
        if value is not result and isinstance(result, Tensor) and any(tensor is result for tensor in read):
            overwrite(result, value)
        return value

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function that torch.fx takes for one operation."""
        if self.within or self.busy or not self.trail:
            return function(*args, **kwargs)
        self.within = True
        try:
            result = function(*args, **kwargs)
        finally:
            self.within = False
        name = function_name(function, None)
        return self.named(self.counting.name(self.here, name), name, tuple(tensors((args, kwargs))), result)

    # values

    @property
    def here(self) -> str:
        """The path of the module that is running."""
        return self.paths.get(self.trail[-1], "") if self.trail else ""

    def named(self, name: str, operation: str, read: tuple[Tensor, ...], value: Any) -> Any:
        """Pass a named value on and return what is to be used in its place."""
        if isinstance(value, Tensor):
            return self.pass_on(name, operation, read, value)
        if isinstance(value, tuple):
            return Items.of(value, self.item)
        return (
            counted(value, self) if type(value) is int and not operation.startswith("__") else value
        )  # int(x) is plain

    def pass_on(self, name: str, operation: str, read: tuple[Tensor, ...], value: Tensor) -> Tensor:
        self.busy = True
        try:
            if self.noted is not None:
                self.noted(name, operation_of(operation), read, value)
            with torch._C.DisableTorchFunction():  # what `heard` computes need not be overheard
                replacement = self.heard(name, value)
        finally:
            self.busy = False
        value = value if replacement is None else replacement
        self.derived[value] = True
        return value

    def item(self, value: Any, whole: tuple[Any, ...]) -> Any:
        """Name one element taken out of a tuple, as torch.fx does: `getitem`."""
        if self.within or self.busy or not self.trail:
            return value
        return self.named(self.counting.name(self.here, "getitem"), "getitem", tuple(tensors(whole)), value)

    def arithmetic(self, word: str, result: Any) -> Any:
        """Count an operation on sizes, which has a name but is no site."""
        if self.within or self.busy or not self.trail:
            return result
        self.counting.name(self.here, word)
        return counted(result, self)


class ScriptEar(TorchDispatchMode):
    """Listens inside a scripted module, where Python sees nothing: its operations go by torch's own names for them."""

    def __init__(self, ear: Ear) -> None:
        super().__init__()
        self.ear = ear

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        ear = self.ear
        read = tuple(tensors((args, kwargs)))
        if ear.busy or not any(tensor in ear.derived for tensor in read):
            return result
        word = operation_of(func._schema.name.split("::")[-1])
        first = result[0] if isinstance(result, tuple) else result
        if not isinstance(first, Tensor):
            return result
        value = ear.pass_on(ear.counting.name(ear.here, word), word, read, first)
        return (value, *result[1:]) if isinstance(result, tuple) else value


@contextmanager
def wrapped_functions(ear: Ear) -> Iterator[None]:
    """While open, functions under `torch.fx.wrap` (Swin's `shifted_window_attention`) are operations, as they are for
    torch.fx.

    They are replaced where torch.fx replaces them while it traces: in the globals of the module that wrapped them.
    """
    tracing = sys.modules.get("torch.fx._symbolic_trace")
    places = getattr(tracing, "_wrapped_fns_to_patch", {})
    originals = [(scope, name, scope[name]) for (_, name), scope in places.items() if callable(scope.get(name))]
    for scope, name, function in originals:
        scope[name] = partial(ear.call, function)
    try:
        yield
    finally:
        for scope, name, function in originals:
            scope[name] = function


class Items(tuple[Any, ...]):
    """A tuple that tells when an element is taken out of it. In all else it is the tuple that it was."""

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


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries, without telling the tuples."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Items):
        yield from tensors(values.whole)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors(value)


def overwrite(value: Tensor, replacement: Tensor) -> None:
    """After an in-place operation those who hold the tensor itself must find the replacement, too.

    With gradients the operation may still need its result, and the replacement counts where the value is used by its
    new name.
    """
    if not (torch.is_grad_enabled() and value.requires_grad):
        value.copy_(replacement)


def is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)
