"""Nested containers as trees: flatten to leaves and back, map over leaves (PyTorch's ``torch.utils._pytree``)."""
from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

PyTree = Any


@dataclass(frozen=True)
class TreeSpec:
    """The shape of a tree: the container's type, what it needs to be made again, and its children. A leaf has type ``None``."""

    type: Any
    context: Any = None
    children_specs: tuple[TreeSpec, ...] = field(default=())

    @property
    def num_leaves(self) -> int:
        """How many leaves the tree has."""
        return 1 if self.type is None else sum(c.num_leaves for c in self.children_specs)

    @property
    def num_children(self) -> int:
        """How many children the root has."""
        return len(self.children_specs)

    def is_leaf(self) -> bool:
        """Whether this is a leaf."""
        return self.type is None

    def __hash__(self) -> int:
        return hash((self.type, self.num_leaves))


LeafSpec = TreeSpec(None)
_registered: dict[type, tuple[Callable, Callable]] = {}


_with_keys: dict[type, Callable] = {}


@dataclass(frozen=True)
class SequenceKey:
    """The way into a list or tuple."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx!r}]"

    def get(self, sequence: Any) -> Any:
        """The element."""
        return sequence[self.idx]


@dataclass(frozen=True)
class MappingKey:
    """The way into a mapping."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"

    def get(self, mapping: Any) -> Any:
        """The value."""
        return mapping[self.key]


@dataclass(frozen=True)
class GetAttrKey:
    """The way to an attribute."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"

    def get(self, obj: Any) -> Any:
        """The attribute."""
        return getattr(obj, self.name)


def register_pytree_node(cls: type, flatten_fn: Callable, unflatten_fn: Callable, *, serialized_type_name: str | None = None,
                         to_dumpable_context: Callable | None = None, from_dumpable_context: Callable | None = None,
                         flatten_with_keys_fn: Callable | None = None) -> None:
    """Makes instances of ``cls`` containers: ``flatten_fn(x)`` gives children and a context, ``unflatten_fn(children, context)`` x, and
    ``flatten_with_keys_fn(x)`` pairs of a key and a child, and the context. (Shapes of trees are not written to files, which is what
    the other arguments are for.)"""
    _registered[cls] = flatten_fn, unflatten_fn
    if flatten_with_keys_fn is not None:
        _with_keys[cls] = flatten_with_keys_fn


def _dict_flatten(d: dict) -> tuple[list[Any], list[Any]]:
    """The values and the keys: what libraries register for their own kinds of dict."""
    return list(d.values()), list(d)


def _dict_flatten_with_keys(d: dict) -> tuple[list[tuple[MappingKey, Any]], list[Any]]:
    """The values with the ways to them, and the keys."""
    return [(MappingKey(k), v) for k, v in d.items()], list(d)


def _dict_unflatten(values: Iterable[Any], context: list[Any]) -> dict:
    """The dict of these values and keys."""
    return dict(zip(context, values))


def _children(x: Any) -> tuple[Any, Any, list] | None:
    """``(type, context, children)`` of a container, ``None`` for a leaf."""
    kind = type(x)
    if kind in _registered:
        children, context = _registered[kind][0](x)
        return kind, context, list(children)
    if kind in (list, tuple):
        return kind, None, list(x)
    if kind in (dict, OrderedDict):
        return kind, list(x), list(x.values())
    if kind is defaultdict:
        return kind, (x.default_factory, list(x)), list(x.values())
    if kind is deque:
        return kind, x.maxlen, list(x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return kind, "namedtuple", list(x)
    return None


def tree_flatten(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves of a tree in order, and its shape.

    Example:
        >>> from fusetorch.utils._pytree import tree_flatten, tree_unflatten
        >>> leaves, spec = tree_flatten({"a": 1, "b": [2, 3]})
        >>> leaves, tree_unflatten([x * 10 for x in leaves], spec)
        ([1, 2, 3], {'a': 10, 'b': [20, 30]})
    """
    found = None if is_leaf is not None and is_leaf(tree) else _children(tree)
    if found is None:
        return [tree], LeafSpec
    kind, context, children = found
    leaves: list[Any] = []
    specs = []
    for child in children:
        more, spec = tree_flatten(child, is_leaf)
        leaves += more
        specs.append(spec)
    return leaves, TreeSpec(kind, context, tuple(specs))


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> PyTree:
    """The tree of a shape with these leaves."""
    leaves = list(leaves)
    if len(leaves) != treespec.num_leaves:
        raise ValueError(f"tree_unflatten(leaves, treespec): `leaves` has length {len(leaves)} but the spec refers to a pytree that holds "
                         f"{treespec.num_leaves} items ({treespec}).")
    return _build(iter(leaves), treespec)


def _build(leaves: Any, spec: TreeSpec) -> Any:
    if spec.type is None:
        return next(leaves)
    children = [_build(leaves, c) for c in spec.children_specs]
    if spec.type in _registered:
        return _registered[spec.type][1](children, spec.context)
    if spec.type in (dict, OrderedDict):
        return spec.type(zip(spec.context, children))
    if spec.type is defaultdict:
        return defaultdict(spec.context[0], zip(spec.context[1], children))
    if spec.type is deque:
        return deque(children, spec.context)
    return spec.type(*children) if spec.context == "namedtuple" else spec.type(children)


def tree_flatten_with_path(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[tuple[tuple, Any]], TreeSpec]:
    """The leaves of a tree, each after the tuple of keys that leads to it, and the tree's shape.

    Example:
        >>> from fusetorch.utils._pytree import keystr, tree_flatten_with_path
        >>> [(keystr(path), leaf) for path, leaf in tree_flatten_with_path({"a": 1, "b": [2, 3]})[0]]
        [("['a']", 1), ("['b'][0]", 2), ("['b'][1]", 3)]
    """
    return list(_paths((), tree, is_leaf)), tree_structure(tree, is_leaf)


def _paths(path: tuple, tree: PyTree, is_leaf: Callable[[Any], bool] | None) -> Iterator[tuple[tuple, Any]]:
    found = None if is_leaf is not None and is_leaf(tree) else _children(tree)
    if found is None:
        yield path, tree
        return
    kind, context, children = found
    if kind in _with_keys:
        keyed = _with_keys[kind](tree)[0]
    elif kind in _registered:
        raise ValueError(f"Did not find a flatten_with_keys_fn for type: {kind}. Please pass a flatten_with_keys_fn argument to "
                         "register_pytree_node.")
    elif isinstance(tree, dict):
        keyed = [(MappingKey(k), v) for k, v in tree.items()]
    elif context == "namedtuple":
        keyed = [(GetAttrKey(name), v) for name, v in zip(tree._fields, children)]
    else:
        keyed = [(SequenceKey(i), v) for i, v in enumerate(children)]
    for key, child in keyed:
        yield from _paths((*path, key), child, is_leaf)


def tree_leaves_with_path(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[tuple, Any]]:
    """The leaves of a tree, each after the tuple of keys that leads to it."""
    return list(_paths((), tree, is_leaf))


def tree_map_with_path(func: Callable, tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """:func:`tree_map` of a function that also gets, first, the tuple of keys that leads to the leaf."""
    keyed, spec = tree_flatten_with_path(tree, is_leaf)
    return tree_unflatten([func(path, leaf, *row) for (path, leaf), *row in zip(keyed, *[_up_to(spec, r) for r in rests])], spec)


def keystr(kp: tuple) -> str:
    """A path as text, such as ``['a'][0].name``."""
    return "".join(map(str, kp))


def key_get(obj: Any, kp: tuple) -> Any:
    """What a path leads to."""
    for key in kp:
        obj = key.get(obj)
    return obj


def tree_leaves(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves of a tree."""
    return tree_flatten(tree, is_leaf)[0]


tree_iter = tree_leaves


def tree_structure(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    """The shape of a tree."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable, tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """The tree with ``func`` applied to each leaf (and to those in the same places of ``rests``)."""
    leaves, spec = tree_flatten(tree, is_leaf)
    return tree_unflatten([func(*row) for row in zip(leaves, *[_up_to(spec, r) for r in rests])], spec)


def _up_to(spec: TreeSpec, tree: Any) -> list[Any]:
    """What stands in ``tree`` where ``spec`` has leaves."""
    if spec.type is None:
        return [tree]
    found = _children(tree)
    if found is None or found[0] is not spec.type or len(found[2]) != len(spec.children_specs):
        raise ValueError(f"Node type mismatch; expected {spec.type} with {len(spec.children_specs)} children, but got {tree!r}.")
    values = found[2] if spec.type not in (dict, OrderedDict) else [tree[k] for k in spec.context]
    return [x for c, v in zip(spec.children_specs, values) for x in _up_to(c, v)]


def tree_map_only(kind: Any, func: Callable, tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """``tree_map`` on the leaves of a type (or types) only."""
    return tree_map(lambda x: func(x) if isinstance(x, kind) else x, tree, is_leaf=is_leaf)


def tree_map_(func: Callable, tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> PyTree:
    """Calls ``func`` on each leaf; the tree itself."""
    tree_map(func, tree, *rests, is_leaf=is_leaf)
    return tree


def tree_all(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether ``pred`` holds for all leaves."""
    return all(map(pred, tree_leaves(tree, is_leaf)))


def tree_any(pred: Callable[[Any], bool], tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> bool:
    """Whether ``pred`` holds for a leaf."""
    return any(map(pred, tree_leaves(tree, is_leaf)))


def broadcast_prefix(prefix: Any, spec: TreeSpec) -> list[Any]:
    """A value for each leaf of ``spec`` from a tree that may end earlier: what stands at its ends holds for all below.

    ``ValueError`` where the trees do not fit.
    """
    if spec.type is None:
        return [prefix]
    found = _children(prefix)
    if found is None:
        return [prefix] * spec.num_leaves
    if len(found[2]) != len(spec.children_specs):
        raise ValueError(f"{prefix!r} does not fit a tree of {len(spec.children_specs)} parts")
    values = [prefix[k] for k in spec.context] if spec.type in (dict, OrderedDict) and isinstance(prefix, dict) else found[2]
    return [x for c, v in zip(spec.children_specs, values) for x in broadcast_prefix(v, c)]
