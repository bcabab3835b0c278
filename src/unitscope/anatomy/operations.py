"""The table of operations: what the whole package knows of what torch can do, in one place.

Problem: many readers of a network ask the same questions. Is this a nonlinearity? Does it treat each position by
itself? May a maximum be taken before it? Does it hand a value to Python? Lists that each reader keeps for itself come
to disagree: a gated linear unit is a nonlinearity, and yet it is not elementwise, since it halves the channels.

Idea: one row per operation, with a plain word for it, its traits, and the other names under which torch runs the same
operation (the class of a module, the function, the operation of the dispatcher). What is in no row has no trait.

    kind("re_lu").word                 "relu"
    kind("relu").nonlinear             True
    kind("glu").elementwise            False
    kind("native_batch_norm").word     "batch_norm"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

Rule = TypeVar("Rule", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """What is known of an operation."""

    word: str
    """The plain word: one where classes and functions have several."""
    nonlinear: bool = False
    """Its input is a pre-activation. Softmax is not among these: softmax compares units."""
    increasing: bool = False
    """Never turns the order of two numbers round: a maximum may be taken before it."""
    elementwise: bool = False
    """Each element of the result depends on the elements at its own place."""
    per_channel: bool = False
    """Takes one value; each channel of the result is made of the same channel of that value."""
    linear: bool = False
    """A sum of products with constants; max-pooling, too, which the linearized network replaces by its center tap."""
    identity: bool = False
    """In evaluation the result is the operand as it was."""
    window: bool = False
    """Each position of the result is made of a window of positions."""
    normalization: bool = False
    """Batch normalization, on whatever device."""
    reads_values: bool = False
    """Hands values to Python, by which a network may choose its path."""
    leaves_torch: bool = False
    """Hands all values of a tensor to something else than torch; a function and no operation of the dispatcher."""
    shaped_by_values: bool = False
    """The shape of its result depends on values, and Python can read a shape without an operation."""
    settled: bool = False
    """Its result is the same for all pictures without NaN and infinities."""
    ignores_values: bool = False
    """Its result does not depend on the values of its operand."""
    view: bool = False
    """A function that gives a part of a tensor, or the same numbers in another shape."""
    metadata: bool = False
    """A function that gives a property of a tensor, such as its size, and not its values."""
    costly: bool = False
    """Its result is left blank where a reading needs shapes only (beside all that torch marks as pointwise)."""


# silu, gelu, hardswish and mish fall before they rise: they are nonlinear, and not increasing. Names that begin with an
# underscore, or with native or cudnn, are those of the dispatcher, which differ between devices and modes.
TABLE = """
word                  traits                                        other names

relu                  nonlinear increasing elementwise per_channel  re_lu
relu6                 nonlinear increasing elementwise per_channel  re_lu6
leaky_relu            nonlinear increasing elementwise per_channel  leaky_re_lu
elu                   nonlinear increasing elementwise per_channel
hardtanh              nonlinear increasing elementwise per_channel
clamp_min             nonlinear increasing elementwise per_channel
sigmoid               nonlinear increasing elementwise per_channel
tanh                  nonlinear increasing elementwise per_channel
softplus              nonlinear increasing elementwise per_channel
prelu                 nonlinear elementwise per_channel             p_re_lu
_prelu_kernel         nonlinear elementwise per_channel
rrelu                 nonlinear elementwise per_channel             r_re_lu
celu                  nonlinear elementwise per_channel
selu                  nonlinear elementwise per_channel
gelu                  nonlinear elementwise per_channel             gelu_tanh quick_gelu
silu                  nonlinear elementwise per_channel             si_lu
swish                 nonlinear elementwise per_channel
mish                  nonlinear elementwise per_channel
hardswish             nonlinear elementwise per_channel
hard_swish            nonlinear elementwise per_channel
hardsigmoid           nonlinear elementwise per_channel
hard_sigmoid          nonlinear elementwise per_channel
softsign              nonlinear elementwise per_channel
softshrink            nonlinear elementwise per_channel
hardshrink            nonlinear elementwise per_channel
tanhshrink            nonlinear elementwise per_channel
threshold             nonlinear elementwise per_channel
log_sigmoid           nonlinear elementwise per_channel             logsigmoid
log_sigmoid_forward   nonlinear elementwise per_channel
clamp                 nonlinear elementwise per_channel
glu                   nonlinear

conv2d                linear window                                 convolution _convolution
linear                linear                                        addmm
batch_norm            linear normalization per_channel costly       batch_norm1d batch_norm2d batch_norm3d sync_batch_norm frozen_batch_norm2d native_batch_norm
_native_batch_norm_legit_no_training  normalization costly
_native_batch_norm_legit  normalization
cudnn_batch_norm      normalization costly
miopen_batch_norm     normalization
_batch_norm_no_update normalization
instance_norm         -                                             instance_norm2d
layer_norm            costly                                        native_layer_norm
group_norm            costly                                        native_group_norm
_fused_rms_norm       costly
max_pool2d            linear window per_channel costly              max_pool2d_with_indices
avg_pool2d            linear window per_channel costly
_adaptive_avg_pool2d  per_channel costly
mean                  costly
sum                   costly
add                   linear elementwise
mul                   elementwise
div                   elementwise                                   truediv
cat                   linear costly
stack                 costly
roll                  costly
constant_pad_nd       costly
reflection_pad2d      costly
upsample_nearest2d    costly
upsample_bilinear2d   costly
upsample_bicubic2d    costly
linalg_vector_norm    costly
_scaled_dot_product_flash_attention_for_cpu  costly
_scaled_dot_product_attention_math  costly

identity              identity per_channel
dropout               identity elementwise per_channel              dropout2d
feature_dropout       identity
stochastic_depth      identity
drop_path             identity
contiguous            identity elementwise
clone                 elementwise per_channel costly
copy                  elementwise costly
detach                elementwise view
alias                 elementwise
to                    elementwise
_to_copy              elementwise
lift_fresh            elementwise
masked_fill           elementwise
nan_to_num            elementwise
rrelu_with_noise      elementwise
where                 elementwise
_conj                 elementwise
real                  elementwise
imag                  elementwise
complex               elementwise
polar                 elementwise
angle                 elementwise
fake_quantize_per_tensor_affine  elementwise

_local_scalar_dense   reads_values ignores_values
item                  reads_values
is_nonzero            reads_values ignores_values
equal                 reads_values ignores_values
allclose              reads_values
tolist                reads_values leaves_torch
numpy                 reads_values leaves_torch
__array__             reads_values leaves_torch
__dlpack__            reads_values leaves_torch
nonzero               shaped_by_values
masked_select         shaped_by_values
unique                shaped_by_values
_unique2              shaped_by_values
unique_dim            shaped_by_values
unique_consecutive    shaped_by_values
isnan                 settled
isinf                 settled
isfinite              settled
isposinf              settled
isneginf              settled

zeros_like            ignores_values
ones_like             ignores_values
empty_like            ignores_values
full_like             ignores_values
rand_like             ignores_values
randn_like            ignores_values
new_zeros             ignores_values
new_ones              ignores_values
new_empty             ignores_values
new_full              ignores_values
new_empty_strided     ignores_values
resize                ignores_values
set                   ignores_values
bernoulli             ignores_values

getitem               view
narrow                view
select                view
view                  view
view_as               view
chunk                 view
split                 view
unbind                view
permute               view
transpose             view
squeeze               view
unsqueeze             view
flatten               view
unflatten             view
reshape               view
expand                view
expand_as             view
movedim               view
swapaxes              view
unfold                view
diagonal              view
tensor_split          view
t                     view

getattr               metadata
size                  metadata
dim                   metadata
ndimension            metadata
stride                metadata
numel                 metadata
nelement              metadata
is_contiguous         metadata
element_size          metadata
data_ptr              metadata
storage_offset        metadata
__len__               metadata
__hash__              metadata
__repr__              metadata
is_floating_point     metadata
is_complex            metadata
type                  metadata
get_device            metadata
untyped_storage       metadata
"""  # noqa: E501

TRAITS = frozenset(field.name for field in fields(Kind)) - {"word"}


def rows(table: str) -> Iterator[tuple[str, Kind]]:
    """Each name of the table with what is known of the operation."""
    for line in table.strip().splitlines()[1:]:
        word, *columns = line.split()
        traits = {column: True for column in columns if column in TRAITS}
        others = [column for column in columns if column not in TRAITS and column != "-"]
        yield from ((name, Kind(word, **traits)) for name in (word, *others))


KINDS: dict[str, Kind] = dict(rows("\n".join(line for line in TABLE.splitlines() if line)))


def kind(name: str) -> Kind:
    """What is known of an operation, by its plain word or any of torch's names in snake case."""
    return KINDS.get(name) or Kind(name)


def is_elementwise(name: str, function: Any) -> bool:
    """Whether an operation of the dispatcher is elementwise: torch marks it so, or the table does."""
    return torch.Tag.pointwise in function.tags or kind(name).elementwise


# what the schema of an operation says


def plain_name(function: Any) -> str:
    """`aten::add_.Tensor` -> `add`."""
    name = function._schema.name.split("::")[1]
    if name.endswith("_") and not name.startswith("__"):
        return name.rstrip("_")
    return {"__iand__": "logical_and", "__and__": "logical_and", "__or__": "logical_or"}.get(name, name)


def arguments_by_name(function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by name, with the defaults that were left out."""
    arguments: dict[str, Any] = {}
    for position, argument in enumerate(function._schema.arguments):
        if position < len(args):
            arguments[argument.name] = args[position]
        elif argument.name in kwargs:
            arguments[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
    return arguments


def written_names(function: Any) -> list[str]:
    """The names of the arguments that an operation writes to."""
    if not function._schema.is_mutable:
        return []
    return [a.name for a in function._schema.arguments if a.alias_info is not None and a.alias_info.is_write]


def register_in(rules: dict[str, Rule]) -> Callable[..., Callable[[Rule], Rule]]:
    """A decorator `@rule("add", "sub")` that enters a function under the names of operations into a table of rules."""

    def rule(*names: str) -> Callable[[Rule], Rule]:
        def enter(function: Rule) -> Rule:
            rules.update(dict.fromkeys(names, function))
            return function

        return enter

    return rule


def written_tensors(function: Any, arguments: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes to."""
    return tensors_in([arguments.get(name) for name in written_names(function)])


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in nested lists and tuples, in their order."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
    return found


def functional_twin(function: Any) -> Any | None:
    """The operation that gives what `function` writes in place: `relu_` -> `relu`; None where there is no such one."""
    name = function._schema.name.split("::")[1]
    if not function._schema.is_mutable or not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(getattr(torch.ops, function.namespace), name[:-1], None)
    twin = getattr(packet, function._overloadname, None)
    if twin is None or twin._schema.is_mutable:
        return None
    names, others = ([argument.name for argument in one._schema.arguments] for one in (function, twin))
    # Only a twin with the same arguments can be called as the operation itself was.
    return twin if names == others else None
